"""The lock of a derivation between threads and processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ccstore.errors import CcError
from ccstore.events import Event, Noted
from ccstore.ports import Cancel
from ccstore.store import gc
from ccstore.store.store import Store
from tests.store.samples import listing, python, register

ID = "d" * 64


def never(holder: str) -> None:
    raise AssertionError(f"waited for {holder}")


def test_nobody_waits_alone(store: Store) -> None:
    with store.locks.derivation(ID, never), store.locks.derivation("e" * 64, never):
        assert ID in listing(store.layout.locks)
    assert ID not in listing(store.layout.locks)


def test_the_second_waits_and_is_told_for_whom(store: Store) -> None:
    told: list[str] = []
    order: list[str] = []

    def second() -> None:
        with store.locks.derivation(ID, told.append):
            order.append("second")

    thread = threading.Thread(target=second)
    with store.locks.derivation(ID, never):
        thread.start()
        while not told:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert len(told) == 1
    assert f"process {os.getpid()} " in told[0]


def test_waiting_can_be_cancelled(store: Store) -> None:
    cancel = Cancel()
    with (
        store.locks.derivation(ID, never),
        pytest.raises(CcError) as caught,
        store.locks.derivation(ID, lambda _: cancel.cancel(), cancel),
    ):
        pass
    assert caught.value.code == "interrupted"


DYING = """
import os, sys
from pathlib import Path
from ccstore.store.store import Store
store = Store.open(Path(sys.argv[1]))
held = store.locks.derivation(sys.argv[2], print)
held.__enter__()
os._exit(9)
"""


def test_a_dead_holder_holds_nothing(store: Store) -> None:
    assert python(DYING, str(store.root), ID).returncode == 9
    assert ID in listing(store.layout.locks)
    with store.locks.derivation(ID, never):
        pass


def test_only_one_of_many_is_inside(store: Store) -> None:
    inside = 0
    most = 0
    rounds = 0

    def work() -> None:
        nonlocal inside, most, rounds
        for _ in range(5):
            with store.locks.derivation(ID, lambda _: None):
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                rounds += 1
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, rounds) == (1, 20)


HOLDING = """
import sys
from pathlib import Path
from ccstore.store.store import Store
from tests.store.samples import register

def fault(done):
    if done == sys.argv[2]:
        print("there", flush=True)
        sys.stdin.read()

with Store.open(Path(sys.argv[1])) as store:
    if sys.argv[2] == "collect":
        with store.gc_lock.exclusive():
            fault("collect")
    else:
        with store.session() as session:
            register(session, fault=fault)
"""


@contextmanager
def another(store: Store, step: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that stops at `step` with the lock of collections in its hands; goes on when its input ends."""
    argv = [sys.executable, "-c", HOLDING, str(store.root), step]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, env=environment) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == b"there\n"
        yield process
        process.stdin.close()
        process.wait()


def test_a_collection_says_for_which_registration_it_waits(store: Store) -> None:
    told: list[Event] = []

    def release(event: Event) -> None:
        if isinstance(event, Noted):
            told.append(event)
            other.stdin.close()  # type: ignore[union-attr]

    with another(store, "place") as other:
        report = gc.collect(store, sink=release)
    [waited] = report.waited_for
    assert waited.startswith(f"process {other.pid} on ")
    assert [event.message for event in told] == [f"waits for {waited}, which changes the store"]  # type: ignore[union-attr]


def test_a_registration_says_for_which_collection_it_waits(store: Store) -> None:
    told: list[str] = []

    def release(event: Event) -> None:
        assert isinstance(event, Noted)
        told.append(event.message)
        other.stdin.close()  # type: ignore[union-attr]

    store.watch(release)
    with another(store, "collect") as other, store.session() as session:
        register(session)
    assert len(told) == 1
    assert told[0].startswith(f"waits for process {other.pid} on ")


def test_who_was_killed_is_named_no_more(store: Store) -> None:
    with another(store, "collect") as other:
        other.kill()
    assert str(other.pid) in store.layout.gc_lock.read_text()
    with store.session():
        assert store.layout.gc_lock.read_text() == ""
