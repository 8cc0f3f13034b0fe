"""Registration: canonical form, agreement with Nix, and what is left when it stops between two steps."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash

from ccstore.codec import nar
from ccstore.errors import CcError
from ccstore.model.hashes import Sha256
from ccstore.model.storepath import StorePath
from ccstore.store import files, gc, verify
from ccstore.store.register import STEPS
from ccstore.store.store import Store
from tests.codec.trees import TREES, nix
from tests.conftest import needs, unmet
from tests.store.samples import listing, make_tree, ordinary, python, register

needs_nix = needs("nix-store")


def test_an_object_gets_its_canonical_form(store: Store) -> None:
    with store.session() as session:
        info = register(session)
    place = store.objects.path(info.path)
    for folder, names, inner in os.walk(place):
        assert stat.S_IMODE(Path(folder).lstat().st_mode) == 0o555
        for path in (Path(folder, name) for name in (*names, *inner)):
            assert path.lstat().st_mtime_ns == 10**9
    assert stat.S_IMODE((place / "bin/run").stat().st_mode) == 0o555
    assert stat.S_IMODE((place / "data").stat().st_mode) == 0o444
    assert place.lstat().st_mtime_ns == 10**9
    assert (info.nar_hash, info.nar_size) == nar.nar_hash(place)
    assert info.path == StorePath.of_content("sample", info.nar_hash)


def test_the_manifest_says_what_each_file_holds(store: Store) -> None:
    with store.session() as session:
        info = register(session)
    entries = {entry.path: entry for entry in store.objects.manifest(info.path)}
    assert list(entries) == ["", "bin", "bin/run", "data", "empty", "link"]
    assert entries["link"].target == "bin/run"
    assert entries["bin/run"].executable
    assert not entries["data"].executable
    assert entries["data"].size == 5
    assert entries["data"].sha256 == hashlib.sha256(b"hello").digest()
    assert entries["data"].xxh3 == xxhash.xxh3_128_digest(b"hello")
    assert store.objects.tree(info.path).open("data").read() == b"hello"


def test_large_and_odd_files(store: Store) -> None:
    data = os.urandom(2 * nar.CHUNK + 7)
    with store.session() as session, session.staging("s") as staging:
        tree = staging / "out"
        (tree / "closed").mkdir(parents=True)
        (tree / "large").write_bytes(data)
        (tree / "closed/secret").write_bytes(b"x")
        (tree / "closed/secret").chmod(0)
        (tree / "closed").chmod(0)
        (tree / os.fsdecode(b"\xff\xfe")).write_bytes(b"")
        info = session.register(tree, "odd")
    entries = {entry.path: entry for entry in store.objects.manifest(info.path)}
    assert entries["large"].sha256 == hashlib.sha256(data).digest()
    assert entries["large"].xxh3 == xxhash.xxh3_128_digest(data)
    assert os.fsdecode(b"\xff\xfe") in entries
    assert verify.verify(store, full=True) == []


@pytest.mark.parametrize("name", TREES)
def test_every_kind_of_object(name: str, store: Store) -> None:
    with store.session() as session, session.staging("s") as staging:
        TREES[name](staging / "out")
        wanted, size = nar.nar_hash(staging / "out")
        info = session.register(staging / "out", "x", expected=wanted)
    assert (info.nar_hash, info.nar_size) == (wanted, size)
    assert verify.verify(store, full=True) == []


@needs_nix
@pytest.mark.parametrize("name", TREES)
def test_nix_store_add_gives_the_same_name(name: str, store: Store, tmp_path: Path) -> None:
    TREES[name](tmp_path / name)
    with store.session() as session:
        info = session.add(tmp_path / name, name)
    place = f"local?root={tmp_path / 'nixroot'}"
    printed = nix(tmp_path, "nix-store", "--store", place, "--add", str(tmp_path / name)).decode().strip()
    assert printed == info.path.logical


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_special_files_are_refused_links_are_not(make: Callable[[Path], None], store: Store) -> None:
    with store.session() as session, session.staging("s") as staging:
        tree = make_tree(staging / "out")
        make(tree / "special")
        if (tree / "special").is_symlink():
            session.register(tree, "x")
            return
        with pytest.raises(CcError) as caught:
            session.register(tree, "x")
    assert caught.value.code == "output-invalid"
    assert listing(store.layout.objects) == []


def nested(top: Path, levels: int) -> None:
    """Folders in one another, deeper than any path could name; each with a file, the innermost unwritable."""
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.close(os.open("file", os.O_CREAT, 0o400, dir_fd=here))
        os.mkdir("d" * 100, dir_fd=here)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.fchmod(here, 0o000)
    os.close(here)


@pytest.mark.parametrize("levels", [30, 200])
def test_folders_nested_too_deep_are_refused_and_removed(levels: int, store: Store) -> None:
    with store.session() as session, session.staging("s") as staging:
        nested(staging / "tree", levels)
        with pytest.raises(CcError) as refused:
            session.register(staging / "tree", "deep")
        assert refused.value.code == "output-invalid"
    assert list(store.layout.objects.iterdir()) == []


def test_folders_nested_nearly_too_deep_can_be_used_everywhere(store: Store) -> None:
    with store.session() as session, session.staging("s") as staging:
        nested(staging / "tree", 27)
        info = session.register(staging / "tree", "deep" * 50)
    assert verify.verify(store, full=True) == []
    gc.collect(store)
    assert not store.objects.has(info.path)


def test_a_wrong_hash_leaves_nothing(store: Store) -> None:
    with store.session() as session, session.staging("s") as staging:
        with pytest.raises(CcError) as caught:
            session.register(make_tree(staging / "out"), "x", expected=Sha256.of(b""))
        assert caught.value.code == "hash-mismatch"
        assert any(Sha256.of(b"").sri in line for line in caught.value.details)
    assert listing(store.layout.objects) == listing(store.layout.manifests) == []


@pytest.mark.parametrize(("name", "code"), [("a b", "name-invalid"), ("..", "name-invalid")])
def test_bad_names(name: str, code: str, store: Store) -> None:
    with store.session() as session, session.staging("s") as staging, pytest.raises(CcError) as caught:
        session.register(make_tree(staging / "out"), name)
    assert caught.value.code == code


def test_what_is_not_there_cannot_be_registered(store: Store, tmp_path: Path) -> None:
    with store.session() as session, session.staging("s") as staging:
        with pytest.raises(CcError) as caught:
            session.register(staging / "out", "x")
        assert caught.value.code == "output-missing"
        with pytest.raises(CcError) as caught:
            session.add(tmp_path / "nothing", "x")
        assert caught.value.code == "file-missing"


def test_the_same_content_is_kept_once(store: Store) -> None:
    with store.session() as session:
        first = register(session)
        inode = store.objects.path(first.path).stat().st_ino
        assert register(session) == first
        other = register(session, name="other")
    assert store.objects.path(first.path).stat().st_ino == inode
    assert other.nar_hash == first.nar_hash
    assert store.objects.with_content(first.nar_hash) == first
    assert store.objects.with_content(Sha256.of(b"")) is None
    assert [info.path.name for info in store.objects.all()] == ["sample", "other"]


def test_a_second_name_outside_cannot_change_an_object(store: Store) -> None:
    with store.session() as session, session.staging("s") as staging:
        tree = make_tree(staging / "out")
        (staging / "outside").hardlink_to(tree / "data")
        (tree / "bin/same").hardlink_to(tree / "bin/run")
        info = session.register(tree, "x")
        (staging / "outside").chmod(0o600)
        (staging / "outside").write_text("evil")
    assert (store.objects.path(info.path) / "bin/same").stat().st_nlink == 2
    assert verify.verify(store, full=True) == []


def test_extended_attributes_are_dropped(store: Store) -> None:
    with store.session() as session, session.staging("s") as staging:
        tree = make_tree(staging / "out")
        try:
            os.setxattr(tree / "data", "user.note", b"x")
        except OSError as error:
            unmet(f"this file system keeps no user attributes: {error}")
        os.setxattr(tree / "bin", "user.note", b"x")
        place = store.objects.path(session.register(tree, "x").path)
    assert os.listxattr(place / "data") == os.listxattr(place / "bin") == []


def test_a_damaged_object_can_be_replaced(store: Store) -> None:
    with store.session() as session:
        info = register(session)
        file = store.objects.path(info.path) / "data"
        file.chmod(0o644)
        file.write_text("wrong")
        register(session)
        assert verify.verify(store, full=False) != []
        with session.staging("s") as staging:
            session.register(make_tree(staging / "out"), "sample", replace={info.path})
    assert verify.verify(store, full=True) == []
    assert listing(store.layout.objects) == [info.path.base]


class StopError(Exception):
    pass


@pytest.mark.parametrize("step", STEPS)
def test_an_error_between_two_steps_leaves_a_whole_store(step: str, store: Store) -> None:
    def fault(done: str) -> None:
        if done == step:
            raise StopError

    with store.session() as session:
        with session.staging("s") as staging, pytest.raises(StopError):
            session.register(make_tree(staging / "out"), "sample", fault=fault)
        assert not [name for name in listing(store.layout.objects) if name.startswith(".")]
        info = register(session)
        assert store.objects.has(info.path)
        assert verify.verify(store, full=True) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from ccstore.store.store import Store
from tests.store.samples import make_tree

def fault(done):
    if done == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

with Store.open(Path(sys.argv[1])) as store, store.session() as session:
    with session.staging("s") as staging:
        session.register(make_tree(staging / "out"), "sample", fault=fault)
"""


@pytest.mark.parametrize("step", STEPS)
def test_kill_9_between_two_steps_leaves_a_whole_store(step: str, tmp_path: Path) -> None:
    root = tmp_path / "store"
    assert python(KILLED, str(root), step).returncode == -signal.SIGKILL
    with Store.open(root) as store:
        assert [each for each in verify.verify(store, full=True) if each.hurts] == []
        registered = store.objects.all()
        assert len(registered) == (1 if step == "index" else 0)
        with store.session() as session:  # it can be registered again, over whatever is left
            info = register(session)
            assert store.objects.has(info.path)
            assert verify.verify(store, full=True) == []
        gc.collect(store)
        for folder in (store.layout.objects, store.layout.manifests, store.layout.temproots):
            assert listing(folder) == []
        assert listing(store.layout.locks) == ["gc.lock"]


ORDINARY = """
import sys
from pathlib import Path
from ccstore.store import gc, verify
from ccstore.store.store import Store
from tests.store.samples import register

with Store.open(Path(sys.argv[1])) as store:
    with store.session() as session:
        info = register(session)
        assert store.objects.path(info.path).stat().st_mode & 0o777 == 0o555
        register(session, "other")
    assert verify.verify(store, full=True) == []
    assert len(gc.collect(store).deleted) == 2
    assert list(store.layout.objects.iterdir()) == []
"""


def test_an_ordinary_user_can_do_all_of_it(tmp_path: Path) -> None:
    done = python(ORDINARY, str(tmp_path / "store"), before=ordinary())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("exchanged", [True, False])
def test_a_damaged_object_stays_until_the_new_one_is_in_its_place(
    exchanged: bool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With renameat2 there is no moment without the one or the other; elsewhere two renames do."""
    if not exchanged:
        monkeypatch.setattr(files, "exchange", lambda one, other: False)
    elif not files.exchange(make_tree(store.root / "a"), make_tree(store.root / "b", "b")):
        pytest.skip("the file system of this store cannot exchange two names")
    with store.session() as session:
        info = register(session)
        place = store.objects.path(info.path)
        (place / "data").chmod(0o644)
        (place / "data").write_text("damaged")
        moved = []
        rename = Path.rename

        def watched(self: Path, target: Path) -> Path:
            moved.append(self)
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", watched)
        with session.staging("again") as staging:
            session.register(make_tree(staging / "out"), "sample", replace={info.path})
    assert (place in moved) is not exchanged
    assert verify.verify(store, full=True) == []
    assert listing(store.layout.objects) == [info.path.base]
