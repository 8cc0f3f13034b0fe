"""`gc` beside `realize`: nothing that is needed is ever deleted, wherever the other one stands just then."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ccstore.build.workspace import Options, Workspace
from ccstore.codec.signing import SecretKey
from ccstore.store import gc
from ccstore.store.store import Store
from tests.crash.killing import spread, steps_of
from tests.crash.tiny import Tiny, strays

ROUNDS, POINTS = 25, 20  # --full: 400, and all

# a process that realizes, and waits on a FIFO at its fault point number N
BLOCKED = """
import sys, threading
from pathlib import Path
from tests.crash.tiny import Tiny

root, store, number, fifo = sys.argv[1:]
count, lock = 0, threading.Lock()

def fault(step):
    global count
    with lock:
        count += 1
        here = count == int(number)
    if here:
        print(step, flush=True)
        Path(fifo).read_bytes()

print(*Tiny(Path(root), Path(store)).realize(fault))
"""

# collects until its input ends
COLLECTING = """
import sys, threading
from pathlib import Path
from tests.crash.tiny import Tiny

tiny = Tiny(Path(sys.argv[1]), Path(sys.argv[2]))
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
print(flush=True)
count = 0
while not ended.is_set():
    tiny.collect()
    count += 1
print(count)
"""


@contextmanager
def python(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, env=environment, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


def holds_the_lock(step: str) -> bool:
    """Whether a collection has to wait for whoever is at this step."""
    return step in {
        "place-manifest",
        "place",
        "index",
        "derivation",
        "realisation",
        "record",
        "root-folder",
        "root",
    }


def test_a_collection_at_every_step_of_a_build(tiny: Tiny, memory: Path, full: bool) -> None:
    """The build stands still there until the collection is over, or is known to wait for it."""
    steps = steps_of(tiny.with_store_of_its_own(memory / "counted").realize)
    fifo = memory / "fifo"
    os.mkfifo(fifo)
    numbers = range(1, len(steps) + 1) if full else spread(steps, POINTS)
    for number in numbers:
        mine = tiny.with_store_of_its_own(memory / str(number))
        with python(BLOCKED, mine.root, mine.store, number, fifo) as build, Store.open(mine.store) as store:
            step = line(build).strip()
            collector = threading.Thread(target=gc.collect, args=(store,))
            collector.start()
            if not holds_the_lock(step):
                collector.join()
            fifo.write_text("")
            answers = line(build).split()
            assert build.wait() == 0, (number, step)
            collector.join()
            assert all((mine.store / "objects" / base).exists() for base in answers), (number, step)
        assert mine.verify() == [], (number, step)
        assert mine.realize() == answers, (number, step)
        mine.collect()
        assert strays(mine.store) == [], (number, step)
    print(f"{len(numbers)} of {len(steps)} points")


def test_what_a_pull_went_by_is_there_when_it_ends(tiny: Tiny, memory: Path) -> None:
    """A collection takes for dead what the store knew of the inputs, as no root leads there yet."""
    key = SecretKey.generate("tests-1")
    tiny.realize()
    tiny.push(memory / "cache", key)
    tiny.trust(memory / "cache", key)
    mine = tiny.with_store_of_its_own(memory / "mine")
    dropped = []

    def fault(step: str) -> None:
        if not holds_the_lock(step):
            dropped.append(mine.collect().realisations)

    options = Options(build=False)
    with Workspace.open(mine.root, mine.store) as work:
        work.realize(["made"], options=options)
        work.store.roots.remove("tiny/made")
        found = work.realize(["changed"], options=options, fault=fault)
        assert sum(dropped) > 0
        assert [work.require_realised("changed")] == list(found.values())


def test_collecting_in_a_loop_beside_realizing_in_a_loop(tiny: Tiny, full: bool) -> None:
    """Every round makes everything anew: what it was made from before is dead, and collected meanwhile."""
    answers = tiny.realize()
    with python(COLLECTING, tiny.root, tiny.store) as collecting:
        line(collecting)
        for number in range(400 if full else ROUNDS):
            tiny.edit(f"round {number % 3}\n")
            answers = tiny.realize()
            assert all((tiny.store / "objects" / base).exists() for base in answers), number
        assert collecting.stdin
        collecting.stdin.close()
        collections = int(line(collecting))
    assert tiny.verify() == []
    assert tiny.realize() == answers
    tiny.collect()
    assert strays(tiny.store) == []
    print(f"{400 if full else ROUNDS} rounds, {collections} collections")
