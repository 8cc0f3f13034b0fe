"""Every fuzzer for a moment, from a fixed seed; with `--full` for five minutes. By hand: `python -m tests.fuzz`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ccstore.builders.archive import ArchiveRefused, normalise
from tests.fuzz.campaign import NAMES, ROOT, engine, fuzz
from tests.fuzz.targets.tar import listed

RUNS = {
    "nar": 15_000,
    "narinfo": 20_000,
    "packed": 5_000,
    "tar": 8_000,
    "records": 40_000,
}  # what takes about three seconds
SECONDS = 300


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.timeout(3 * SECONDS)
@pytest.mark.parametrize("name", NAMES)
def test_no_text_is_too_much_for_a_reader(name: str, corpora: Path, full: bool) -> None:
    runs = RUNS.get(name, 1_500)
    outcome = fuzz(name, corpora / name, f"-max_total_time={SECONDS}" if full else f"-runs={runs}", "-seed=1")
    print(f"{name}: {outcome}")
    assert outcome.finding is None, outcome.log
    assert outcome.inputs >= runs
    assert outcome.branches > 0


def test_tar_makes_of_what_passes_what_was_judged(corpora: Path) -> None:
    """Texts that the fuzzer of tar archives came upon, by the program that unpacks them."""
    if not (corpora / "tar").exists():
        fuzz("tar", corpora / "tar", "-runs=2000", "-seed=1")
    passed = 0
    for text in (corpora / "tar/corpus").iterdir():
        data = text.read_bytes()
        try:
            found = [path for path, _ in listed(data)]
        except ArchiveRefused:
            continue
        shown = subprocess.run(
            ["tar", "-t", "--quoting-style=escape"], input=data, capture_output=True, check=False
        )
        if shown.returncode == 0:
            passed += 1
            assert [_plain(each) for each in shown.stdout.splitlines()] == found, text
    assert passed > 10


def _plain(line: bytes) -> bytes:
    """The path in a line of tar's, which has C's escapes for what is not printable."""
    return normalise(line.decode("unicode_escape").encode("latin-1"))


FINDINGS = {"beside": "written outside", "outside": "Read-only file system", "memory": "MemoryError",
            "growth": "out-of-memory", "hang": "timeout", "crash": "KeyError"}  # fmt: skip


@pytest.mark.parametrize("text", FINDINGS)
def test_what_a_fuzzer_is_for_is_a_finding(text: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text(text)
    done = engine("_broken", tmp_path, *(["-timeout=2"] if text == "hang" else []))
    assert done.returncode != 0
    assert FINDINGS[text] in done.stdout


def test_it_runs_from_the_command_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "records", "--runs", "50", "--keep", tmp_path],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "50 texts" in done.stdout
