"""The evaluation cache: when it answers, and everything that must make it silent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ccstore.build import evaluation
from ccstore.build.evaluation import Known
from tests.conftest import write

BASE = "0" * 32 + "-kernel"


@dataclass
class Case:
    """A store and a project with one answer in the cache; `began` is when it was worked out."""

    store: Path
    project: Path
    fragment: Path

    def lookup(self, target: str = "kernel") -> str | None:
        return evaluation.lookup(str(self.store), str(self.project), target)

    def record(self, began: int) -> None:
        read = [str(self.fragment), str(self.fragment.parent)]
        evaluation.record(
            str(self.store),
            str(self.project),
            "kernel",
            Known(BASE, "p/kernel", "kernel", "[]"),
            began,
            read,
            [str(self.project / "later")],
        )


@pytest.fixture
def case(tmp_path: Path) -> Case:
    case = Case(tmp_path / "store", tmp_path / "project", tmp_path / "project/kernel/a.config")
    write(case.fragment, "CONFIG_A=y\n")
    write(case.store / "objects" / BASE, "")
    write(case.store / "roots/p/kernel", f'{{"path":"{BASE}"}}')
    case.record(_later())
    return case


def _later() -> int:
    """A beginning that is safely after everything that has happened so far."""
    return evaluation.clock() + 10**9


def _flip(path: Path) -> None:
    """Changes one byte and puts the times back, as a careless tool might."""
    before = path.stat()
    path.write_text("CONFIG_B=y\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _fold(path: Path) -> None:
    path.unlink()
    path.mkdir()


def test_it_answers_while_nothing_changes(case: Case) -> None:
    assert case.lookup() == BASE
    known = evaluation.known(str(case.store), str(case.project), "kernel")
    assert known
    assert (known.base, known.root, known.step, known.caches) == (BASE, "p/kernel", "kernel", "[]")
    assert case.lookup("other") is None
    assert evaluation.lookup(str(case.store), "/elsewhere", "kernel") is None


CHANGES: dict[str, Callable[[Case], object]] = {
    "one byte, size and mtime kept": lambda case: _flip(case.fragment),
    "a file came": lambda case: write(case.fragment.with_name("b.config"), ""),
    "a file went": lambda case: case.fragment.unlink(),
    "what was not there came": lambda case: write(case.project / "later", ""),
    "the object went": lambda case: (case.store / "objects" / BASE).unlink(),
    "the root went": lambda case: (case.store / "roots/p/kernel").unlink(),
    "the root names another": lambda case: write(case.store / "roots/p/kernel", '{"path":"1-kernel"}'),
    "a folder in a file's place": lambda case: _fold(case.fragment),
    "a cache cut short at a line": lambda case: [
        each.write_text("".join(each.read_text().splitlines(keepends=True)[:-2]))
        for each in (case.store / "evaluations").iterdir()
    ],
    "rubbish in the cache": lambda case: [
        each.write_bytes(b"\xff\x00 rubbish\n") for each in (case.store / "evaluations").iterdir()
    ],
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_silent_after(case: Case, change: str) -> None:
    CHANGES[change](case)
    assert case.lookup() is None


def test_it_is_silent_for_somebody_with_another_configuration(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(case.project / "config"))
    assert case.lookup() is None
    case.record(_later())
    assert case.lookup() == BASE


def test_a_change_within_the_clock_s_tick_is_noticed(case: Case) -> None:
    """The numbers of the file are as recorded, its content is not: what a coarse clock would show."""
    [cache] = (case.store / "evaluations").iterdir()
    seen = case.fragment.stat()
    write(case.fragment, "CONFIG_B=y\n")
    now = case.fragment.stat()
    text = cache.read_text()
    text = text.replace(f"{seen.st_mtime_ns} {seen.st_ctime_ns}", f"{now.st_mtime_ns} {now.st_ctime_ns}")
    cache.write_text(text)
    assert str(now.st_ctime_ns) in text
    assert case.lookup() is None


def test_nothing_is_recorded_when_a_file_changed_meanwhile(case: Case) -> None:
    began = evaluation.clock()
    write(case.fragment, "CONFIG_C=y\n")
    case.record(began)
    assert case.lookup() is None


def test_nothing_is_recorded_when_ccstore_itself_changed_meanwhile(case: Case) -> None:
    [cache] = (case.store / "evaluations").iterdir()
    cache.unlink()
    case.record(evaluation.own_files()[0])
    assert not cache.exists()


def test_an_answer_loads_nothing_slow() -> None:
    """typing alone would cost a command that has nothing to do a tenth of its time."""
    load = "import sys, ccstore.cli.main; from ccstore.build import evaluation, locate; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path}; {load}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "ccstore.build.evaluation" in loaded
    assert {"typing", "re", "dataclasses", "pathlib", "json", "sqlite3", "click"} & set(loaded) == set()
