"""Opening a store: made anew, made by others, read-only, full, without its index."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.model.realisation import OutputId, Realisation
from ccstore.store import database, gc, verify
from ccstore.store.files import remove
from ccstore.store.gc import GcOptions
from ccstore.store.rebuild import rebuild, settle
from ccstore.store.store import Store
from tests.store.samples import derive, listing, needs_mount, older, ordinary, python, realise, register


def code_of(root: Path, *, create: bool = True) -> str:
    with pytest.raises(CcError) as caught:
        Store.open(root, create=create)
    return caught.value.code


def sample(store: Store) -> object:
    """Makes two realisations with a root, one known from a cache whose input is not, and one that nothing keeps."""
    with store.session() as session:
        first = realise(store, session, "one")
        second = realise(store, session, "two", first)
        realise(store, session, "other")
        cached = Realisation(
            OutputId(derive("cached").id, "out"),
            second.object,
            (OutputId("c" * 64, "dev"), first.id),
            origin="substituted",
        )
        store.realisations.record(None, [cached])
        store.roots.add("p/two", second.object.path, second.id)
    return knowledge(store)


def knowledge(store: Store) -> object:
    """What the index says, and what a collection would make of it."""
    database = store.database
    realised = [store.realisations.of_object(each.path) for each in store.objects.all()]
    return database.objects(), database.facts(), realised, gc.collect(store, GcOptions(dry_run=True))


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    assert code_of(tmp_path / "s", create=False) == "not-found"
    assert listing(tmp_path) == []


def test_a_folder_with_other_files_can_become_a_store(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("what lies here")
    Store.open(tmp_path).close()
    Store.open(tmp_path, create=False).close()
    assert (tmp_path / "README.md").read_text() == "what lies here"


def test_formats(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    (tmp_path / "format").write_text("ccstore-store 2\n")
    assert code_of(tmp_path) == "newer-store"
    (tmp_path / "format").write_text("something else\n")
    assert code_of(tmp_path) == "store-unusable"


def test_a_newer_index(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "index.sqlite") as connection:
        connection.execute(f"PRAGMA user_version = {len(database.migrations()) + 1}")
    assert code_of(tmp_path) == "newer-store"


@pytest.mark.parametrize("schema", [1, 2])
def test_an_older_index_is_upgraded(schema: int, store: Store) -> None:
    before = sample(store)
    older(store.layout.index, schema)
    with Store.open(store.root) as opened:
        assert knowledge(opened) == before
        assert verify.verify(opened, full=True) == []


UPGRADED = """
import os, sys
from pathlib import Path
from ccstore.store import database
from ccstore.store.store import Store

whole = database._statements

def some(script):
    for number, statement in enumerate(whole(script)):
        if number == int(sys.argv[2]):
            os._exit(9)
        yield statement

database._statements = some
Store.open(Path(sys.argv[1]))
"""


def test_an_upgrade_that_is_killed_leaves_the_older_index(store: Store) -> None:
    before = sample(store)
    older(store.layout.index, 2)
    steps = list(database._statements(database.migrations()[2]))
    for number in range(len(steps)):
        assert python(UPGRADED, str(store.root), str(number)).returncode == 9
    with Store.open(store.root) as opened:
        assert knowledge(opened) == before


def test_an_index_that_is_no_database(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    (tmp_path / "index.sqlite").write_bytes(b"garbage" * 1000)
    assert code_of(tmp_path) == "store-unusable"


def test_a_broken_index_can_be_recovered(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store, store.session() as session:
        found = realise(store, session, "one")
    store.layout.index.write_bytes(b"garbage" * 1000)
    with Store.open_sound(tmp_path / "s") as store:
        assert store.objects.has(found.object.path)
        assert store.realisations.of_object(found.object.path) == [found]
    remove(tmp_path / "s")


def test_changed_modes_and_lost_manifests_are_settled(store: Store) -> None:
    with store.session() as session:
        info = register(session)
    (store.objects.path(info.path) / "data").chmod(0o777)
    store.layout.manifest(info.path).unlink()
    assert settle(store.layout, info.path) is None  # executable now: other content
    (store.objects.path(info.path) / "data").chmod(0o644)
    assert settle(store.layout, info.path) is not None
    assert verify.verify(store, full=True) == []


def test_a_file_where_the_store_should_be(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("")
    assert code_of(tmp_path / "s") == "store-unusable"
    assert code_of(tmp_path / "s" / "t") == "store-unusable"


def test_a_lost_index_is_made_again(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store, store.session() as session:
        first = realise(store, session, "one")
        second = realise(store, session, "two", first)
        store.roots.add("p/two", second.object.path, second.id)
        before = (store.objects.all(), store.database.facts())
    (tmp_path / "s/index.sqlite").unlink()
    with Store.open(tmp_path / "s") as store:
        assert (store.objects.all(), store.database.facts()) == before
        assert gc.collect(store).deleted == ()
        assert not [name for name in listing(tmp_path / "s") if name.startswith(".")]
    remove(tmp_path / "s")


def test_rebuilding_makes_lost_manifests_and_leaves_out_what_is_damaged(store: Store) -> None:
    with store.session() as session:
        good, bad = register(session, "good"), register(session, "bad")
    for info in (good, bad):
        store.layout.manifest(info.path).unlink()
    data = store.objects.path(bad.path) / "data"
    data.chmod(0o644)
    data.write_text("changed")
    (store.layout.realisations / "garbage.json").write_text("{")
    left_out = rebuild(store.layout, store.database, store.gc_lock)
    assert {Path(each).name for each in left_out} == {bad.path.base, "garbage.json"}
    assert store.objects.all() == [good]
    (store.layout.realisations / "garbage.json").unlink()
    assert {each.kind for each in verify.verify(store, full=True)} == {"stray"}


def test_sqlite_itself_refuses_to_orphan_a_realisation(store: Store) -> None:
    with store.session() as session:
        realise(store, session, "one")
    with sqlite3.connect(store.layout.index) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("DELETE FROM objects")


READ_ONLY = """
import sys
from pathlib import Path
from ccstore.errors import CcError
from ccstore.model.realisation import OutputId
from ccstore.store import gc, verify
from ccstore.store.store import Store

def refused(act):
    try:
        act()
    except CcError as error:
        assert error.code == "read-only-store", error
    else:
        raise AssertionError(f"{act} was let through")

root = Path(sys.argv[1])
with Store.open(root, create=False) as store:
    info, = store.objects.all()
    found, = store.realisations.of_object(info.path)
    assert found.object == info and found.id in store.database.facts()
    assert store.objects.has(info.path) and not store.writable
    assert verify.verify(store, full=True) == []
    refused(store.session)
    refused(lambda: gc.collect(store))
    refused(lambda: store.roots.add("p/t", info.path))
    refused(lambda: store.logs.writer("0" * 64).__enter__())
    refused(lambda: store.locks.derivation("0" * 64, print).__enter__())
    refused(lambda: store.realisations.record(None, []))
refused(lambda: Store.open(root / "objects" / "new"))
"""


@pytest.mark.parametrize("schema", [1, 2, 3])
def test_a_store_that_belongs_to_somebody_else_can_be_read(schema: int, tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store, store.session() as session:
        realise(store, session, "one")
    if schema < 3:
        older(store.layout.index, schema)
    folders = [tmp_path / "s", *store.layout.folders()]
    store.layout.gc_lock.chmod(0o444)
    for folder in folders:
        folder.chmod(0o555)
    try:
        done = python(READ_ONLY, str(tmp_path / "s"), before=ordinary())
        assert done.returncode == 0, done.stderr
    finally:
        for folder in folders:
            folder.chmod(0o755)
        remove(tmp_path / "s")


@needs_mount
def test_a_read_only_file_system(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store, store.session() as session:
        realise(store, session, "one")
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    before = ("unshare", "-rm", "sh", "-c", mount, str(tmp_path / "s"))
    done = python(READ_ONLY, str(tmp_path / "s"), before=before)
    assert done.returncode == 0, done.stderr
    remove(tmp_path / "s")


FULL = """
import os, sys
from pathlib import Path
from ccstore.errors import CcError
from ccstore.store import gc, verify
from ccstore.store.store import Store
from tests.store.samples import register

def refused(act):
    try:
        act()
    except CcError as error:
        assert error.code == "disk-full" and error.hint, error
    else:
        raise AssertionError(f"{act} was let through")

with Store.open(Path(sys.argv[1])) as store, store.session() as session:
    kept = register(session)
    def fill(size):
        with session.staging("fill") as staging:
            (staging / "out").mkdir()
            (staging / "out/large").write_bytes(os.urandom(size))
            return session.register(staging / "out", "large")
    refused(lambda: fill(8 << 20))
    with open(store.root / "ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            pass
    refused(lambda: register(session, "more"))
    def log():
        with store.logs.writer("0" * 64) as writer:
            for _ in range(100):
                writer.write(os.urandom(4096))
    refused(log)
    os.unlink(store.root / "ballast")
    assert verify.verify(store, full=True) == []
    assert store.objects.all() == [kept]
    register(session, "more")
    assert verify.verify(store, full=True) == []
with Store.open(Path(sys.argv[1])) as store:
    gc.collect(store)
    assert list(store.layout.objects.iterdir()) == []
"""


@needs_mount
def test_a_full_disk_halves_nothing(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=2m none "$0" && exec "$@"'
    done = python(FULL, str(tmp_path / "s"), before=("unshare", "-rm", "sh", "-c", mount, str(tmp_path)))
    assert done.returncode == 0, done.stderr
