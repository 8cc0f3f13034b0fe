"""Runs the fuzzers, each in a process of its own, and reads what libFuzzer says at their end."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
NAMES = tuple(sorted(each.stem for each in (Path(__file__).parent / "targets").glob("[a-z]*.py")))
FINDINGS = ("crash-*", "timeout-*", "oom-*")


@dataclass(frozen=True)
class Outcome:
    """`inputs` texts were read, those in `corpus` kept, which reached `branches`; `finding` is a file, or nothing."""

    inputs: int
    branches: int
    corpus: Path
    seconds: float
    finding: Path | None
    log: str

    def __str__(self) -> str:
        kept = len(list(self.corpus.iterdir()))
        text = f"{self.inputs:,} texts, {self.branches:,} branches reached by {kept} of them, "
        return (
            text
            + f"slowest {self.seconds:g} s, "
            + (f"FOUND {self.finding}" if self.finding else "nothing found")
        )


def fuzz(name: str, folder: Path, *options: str) -> Outcome:
    """Runs one fuzzer with options of libFuzzer, and keeps in `folder` what it found."""
    folder.mkdir(parents=True, exist_ok=True)
    done = engine(name, folder, *options)
    log = done.stdout
    findings = [each for pattern in FINDINGS for each in sorted(folder.glob(pattern))]
    if done.returncode != 0 and not findings:
        raise RuntimeError(f"the fuzzer {name} ended with {done.returncode}:\n{log[-6000:]}")
    return Outcome(
        inputs=_last(log, r"stat::number_of_executed_units: *(\d+)"),
        branches=_last(log, r"cov: (\d+)"),
        corpus=folder / "corpus",
        seconds=_last(log, r"stat::slowest_unit_time_sec: *(\d+)"),
        finding=findings[0] if findings else None,
        log=log[-6000:],
    )


def replay(name: str, file: Path) -> int:
    """Gives one text to a reader; prints what happens, and returns the exit status."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ccstore-fuzz-") as folder:
        (Path(folder) / "text").write_bytes(file.read_bytes())
        done = engine(name, Path(folder))
    print(done.stdout)
    return done.returncode


def engine(name: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz.engine", name, str(folder.resolve()), *options]
    return subprocess.run(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def _last(log: str, pattern: str) -> int:
    found = re.findall(pattern, log)
    return int(found[-1]) if found else 0
