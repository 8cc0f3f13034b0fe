"""The lock of a derivation between threads and processes."""

from __future__ import annotations

import os
import threading
import time

import pytest

from ccstore.errors import CcError
from ccstore.ports import Cancel
from ccstore.store.store import Store
from tests.store.samples import listing, python

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
