"""Ending a process at a chosen point of what it does, as `kill -9` would.

What is to be killed runs in a forked child: nothing has to be imported again, so a round costs what the work costs.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from ccstore.ports import Fault

Act = Callable[[Fault], object]


class _Counter:
    """A fault that writes down each step, and kills at one."""

    def __init__(self, at: int | None = None) -> None:
        self.steps: list[str] = []
        self._at = at
        self._lock = threading.Lock()

    def __call__(self, step: str) -> None:
        with self._lock:  # nobody goes on while one is killed
            self.steps.append(step)
            if len(self.steps) == self._at:
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()


def steps_of(act: Act) -> list[str]:
    """The fault points that `act` comes by, in order."""
    counter = _Counter()
    act(counter)
    return counter.steps


def kill_at(number: int, act: Act, log: Path) -> None:
    """Does `act` in a child that is killed at its fault point `number`, the first being 1."""
    status = in_child(lambda: act(_Counter(number)), log)
    assert os.WIFSIGNALED(status), f"point {number} was not reached:\n{log.read_text()}"
    assert os.WTERMSIG(status) == signal.SIGKILL


def in_child(work: Callable[[], object], log: Path) -> int:
    """Does `work` in a forked child, whose output goes to `log`; its wait status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitpid(child, 0)[1]


def spread(steps: list[str], count: int) -> list[int]:
    """At most `count` of the points 1…, if each kind of step is to be among them; spread over the whole run."""
    first = {step: number for number, step in reversed(list(enumerate(steps, 1)))}
    chosen = set(first.values())
    others = [number for number in range(1, len(steps) + 1) if number not in chosen]
    random.Random(0).shuffle(others)
    return sorted(chosen.union(others[: max(0, count - len(chosen))]))
