"""Processes of a cluster: each writes a log, and ends with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 60.0  # seconds for one to be ready, and to end when asked


@dataclass
class Service:
    """A process that runs, and where it writes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        logs: Path,
        *,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> Service:
        log = logs / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [str(each) for each in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {})},
                cwd="/",
                user=user,
                group=user,
                extra_groups=[] if user else None,
                start_new_session=True,
            )
        return cls(name, process, log)

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Raises RuntimeError with the end of the log if it ends before it is ready, or is not ready in time."""
        end = time.monotonic() + PATIENCE
        while not ready():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.name} does not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """As a power cut ends it: no farewell, and all that it started goes with it."""
        for each in (*descendants(self.process.pid), self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self.process.wait()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(how)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
        if self.process.poll() is None:
            self.kill()


def ancestors(process: int) -> list[int]:
    """A process of this machine, its parent, and so on up."""
    parents, found = _parents(), [process]
    while (parent := parents.get(found[-1], 0)) > 1:
        found.append(parent)
    return found


def descendants(process: int) -> list[int]:
    parents = _parents()
    found = [process]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def _parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return found
