"""What a check keeps of outputs that differ: both of them, the build's log, diffoscope's report."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ccstore.build.rebuild import Ready
from ccstore.errors import CcError
from ccstore.events import Noted, Sink
from ccstore.store import files
from ccstore.store.store import Store

DIFFOSCOPE = "diffoscope"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where it goes. Of each output the first difference is kept."""

    keep_in: Path | None
    html: Path | None
    sink: Sink

    @classmethod
    def prepare(cls, keep: Path | None, html: Path | None, sink: Sink) -> Evidence:
        """Before anything is built: raises `output-exists`, `tool-missing`, `usage`."""
        if html and not shutil.which(DIFFOSCOPE):
            raise CcError(
                "tool-missing",
                "--html wants diffoscope, which is not installed",
                hint="apt-get install diffoscope-minimal, or pip install diffoscope; without --html the differences "
                "are explained as well",
            )
        for folder in {folder for folder in (keep, html) if folder}:
            _make_empty(folder)
        return cls(keep, html, sink)

    def keep(self, name: str, first: Path, second: Path) -> None:
        """What two objects that differ hold, once for each `name`."""
        if self.keep_in and not (self.keep_in / name).exists():
            (self.keep_in / name).mkdir()
            files.copy(first, self.keep_in / name / "first")
            files.copy(second, self.keep_in / name / "second")
            self.sink(Noted(f"both are kept in {self.keep_in / name}"))
        if self.html and not (self.html / f"{name}.html").exists():
            _diffoscope(first, second, self.html / f"{name}.html", self.sink)

    def keep_log(self, store: Store, ready: Ready) -> Path | None:
        """The log of a rebuild that failed; where it is then."""
        if self.keep_in is None:
            return None
        path = self.keep_in / f"{ready.step.name}.log"
        path.write_bytes(b"".join(store.logs.read(ready.derivation.id)))
        return path


def _make_empty(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
    except OSError as error:
        message = f"cannot write to {folder}: {error.strerror}"
        raise CcError("usage", message, hint="name a folder that can be made or written to") from error
    if taken:
        raise CcError("output-exists", f"{folder} is not empty", hint="name a folder that is new or empty")


def _diffoscope(first: Path, second: Path, report: Path, sink: Sink) -> None:
    """Its exit status is 1 for a difference; a failure of it does not change what the check found."""
    sink(Noted(f"diffoscope compares {first.name} and {second.name}"))
    found = subprocess.run(
        [DIFFOSCOPE, "--html", str(report), str(first), str(second)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode > 1 or not report.exists():
        last = found.stderr.strip().splitlines()[-1:]
        sink(Noted(f"diffoscope failed: {''.join(last)}", warning=True))
    else:
        sink(Noted(f"diffoscope's report is {report}"))
