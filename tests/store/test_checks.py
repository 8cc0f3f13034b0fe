"""Records of checks, and objects that another store borrows."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from ccstore.codec.nar import nar_hash
from ccstore.errors import CcError
from ccstore.model.hashes import Sha256
from ccstore.store.borrow import borrow
from ccstore.store.checks import Rebuild
from ccstore.store.files import remove
from ccstore.store.store import Store
from ccstore.store.verify import verify
from tests.store.samples import realise, register

OTHER = Sha256(bytes(32))


def test_rebuilds_are_counted_by_what_they_gave(store: Store) -> None:
    with store.session() as session:
        found = realise(store, session, "kernel")
    same = Rebuild(1, found.object.nar_hash, ("jobs", "load"))
    store.checks.record(found.id, [same, same])
    store.checks.record(found.id, [Rebuild(2, OTHER, ())])
    assert (store.checks.reproduced(found), store.checks.differed(found)) == (2, 1)
    assert store.checks.rebuilds(found.id) == [same, same, Rebuild(2, OTHER, ())]
    with Store.open(store.root) as again:
        assert again.checks.reproduced(found) == 2


def test_nothing_is_recorded_of_what_was_collected(store: Store) -> None:
    with store.session() as session:
        found = realise(store, session, "kernel")
    store.layout.realisation(found.id).unlink()
    store.checks.record(found.id, [Rebuild(1, OTHER, ())])
    assert list(store.layout.checks.iterdir()) == []


def test_records_of_several_processes_are_all_kept(store: Store) -> None:
    with store.session() as session:
        found = realise(store, session, "kernel")

    def record(number: int) -> None:
        with Store.open(store.root) as own:
            for _ in range(5):
                own.checks.record(found.id, [Rebuild(number, OTHER, ())])

    threads = [threading.Thread(target=record, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(store.checks.rebuilds(found.id)) == 20
    assert [each for each in store.layout.locks.iterdir() if each.name.startswith("check-")] == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 2}', "[" * 5000, "null"])
def test_a_record_that_is_none(store: Store, text: str) -> None:
    with store.session() as session:
        found = realise(store, session, "kernel")
    store.layout.check(found.id).write_text(text)
    with pytest.raises(ValueError):
        store.checks.read(found.id)
    assert store.checks.rebuilds(found.id) == []
    assert [each.kind for each in verify(store)] == ["check"]
    store.checks.record(found.id, [Rebuild(1, OTHER, ())])
    assert store.checks.differed(found) == 1


def test_an_object_is_borrowed_as_links(store: Store, tmp_path: Path) -> None:
    with store.session() as session:
        info = register(session)
    with Store.open(tmp_path / "other") as other:
        borrow(store, other, [info.path])
        borrow(store, other, [info.path])
        assert other.objects.info(info.path) == info
        assert verify(other, full=True) == verify(store, full=True) == []
        one, two = store.objects.path(info.path), other.objects.path(info.path)
        assert (one / "bin/run").samefile(two / "bin/run")
        assert not (one / "bin").samefile(two / "bin")
    remove(tmp_path / "other")
    assert nar_hash(one) == (info.nar_hash, info.nar_size)
    assert verify(store, full=True) == []


def test_an_object_is_borrowed_as_copies_of_another_owner(store: Store, tmp_path: Path) -> None:
    owner = 65534 if os.geteuid() == 0 else os.geteuid()
    with store.session() as session:
        info = register(session)
    with Store.open(tmp_path / "other") as other:
        borrow(store, other, [info.path])
        borrow(store, other, [info.path], owner)
        one, two = store.objects.path(info.path), other.objects.path(info.path)
        found = [two, *two.rglob("*")]
        assert {path.lstat().st_uid for path in found} == {owner}
        assert {path.lstat().st_uid for path in (one, *one.rglob("*"))} == {os.geteuid()}
        assert (one / "bin/run").samefile(two / "bin/run") == (owner == os.geteuid())
        assert verify(other, full=True) == []
    remove(tmp_path / "other")
    assert verify(store, full=True) == []


def test_a_single_file_is_borrowed(store: Store, tmp_path: Path) -> None:
    with store.session() as session, session.staging("x") as staging:
        (staging / "out").write_text("x")
        info = session.register(staging / "out", "file")
    with Store.open(tmp_path / "other") as other:
        borrow(store, other, [info.path])
        assert verify(other, full=True) == []
        assert other.objects.path(info.path).read_text() == "x"


def test_only_what_is_there_is_borrowed(store: Store, tmp_path: Path) -> None:
    with store.session() as session:
        info = register(session)
    remove(store.objects.path(info.path))
    with Store.open(tmp_path / "other") as other:
        with pytest.raises((CcError, FileNotFoundError)):
            borrow(store, other, [info.path])
        assert other.objects.info(info.path) is None
