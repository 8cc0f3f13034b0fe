"""READY of the agent: seconds from the start of QEMU, without KVM, for guests that differ in one thing.

The bare init (tests/data/guest) is put in the place of the agent's initramfs: same kernel, command line and machine.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ccstore.guest.agent import Agent
from ccstore.guest.boot import BootImage
from ccstore.guest.options import Options
from ccstore.guest.programs import host_qemu
from ccstore.guest.qemu import Wiring, arguments

MARKER = b"ccstore-guest: user space"
RUNS = 9
_PATIENCE = 120.0


@dataclass(frozen=True)
class Spent:
    """Seconds of wall clock, and of QEMU's CPU time."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Times:
    """Medians in seconds, and the ratios pair by pair (median)."""

    ours: float
    theirs: float
    ratio: float
    ratio_cpu: float

    def row(self, work: str, against: str, wanted: float) -> str:
        figures = f"{self.ours:.2f} s / {self.theirs:.2f} s; CPU {self.ratio_cpu:.2f} ×; median of {RUNS}"
        return f"| {work} | {against} | ≤ {wanted:g} × | {self.ratio:.2f} × ({figures}) |"


def measure(minimal: BootImage, service: BootImage, bare: Path, folder: Path) -> tuple[Times, Times]:
    """The agent as PID 1 beside a bare init, and as a service beside itself as PID 1; all three in turn."""
    without = replace(minimal, initrd=bare)
    acts: list[Callable[[int], Spent]] = [
        lambda number: _until_ready(minimal, folder / f"minimal{number}"),
        lambda number: _until_marker(without, folder / f"bare{number}"),
        lambda number: _until_ready(service, folder / f"service{number}"),
    ]
    for act in acts:
        act(0)  # into the page cache
    rounds = [[act(number) for act in acts] for number in range(1, RUNS + 1)]
    return _times([(each[0], each[1]) for each in rounds]), _times([(each[2], each[0]) for each in rounds])


def _times(pairs: list[tuple[Spent, Spent]]) -> Times:
    ours, theirs = (statistics.median(pair[i].wall for pair in pairs) for i in (0, 1))
    ratio = statistics.median(mine.wall / other.wall for mine, other in pairs)
    return Times(ours, theirs, ratio, statistics.median(mine.cpu / other.cpu for mine, other in pairs))


def _start(image: BootImage, folder: Path) -> subprocess.Popen[bytes]:
    qemu = host_qemu() or sys.exit("qemu-system-x86_64 is not installed")
    folder.mkdir()
    channels = tuple(f"socket,path={folder}/{name},server=on,wait=off" for name in ("control", "terminal"))
    options = Options(image.machine, "tcg", image.memory)
    argv = [*qemu.prefix, *arguments(image, options, Wiring(channels=(channels[0], channels[1])))]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _until_ready(image: BootImage, folder: Path) -> Spent:
    began = time.monotonic()
    process = _start(image, folder)
    try:
        with Agent.connect(folder / "control", folder / "terminal", timeout=_PATIENCE):
            return _spent(process, began)
    finally:
        _end(process)


def _until_marker(image: BootImage, folder: Path) -> Spent:
    began = time.monotonic()
    process = _start(image, folder)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if MARKER in line:
                return _spent(process, began)
        raise SystemExit("the bare init said nothing")
    finally:
        _end(process)


def _spent(process: subprocess.Popen[bytes], began: float) -> Spent:
    wall = time.monotonic() - began
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return Spent(wall, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()
