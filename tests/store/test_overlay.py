"""Overlay upper folders become whole objects: unchanged files are links, whatever is hidden stays hidden."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from ccstore.codec import nar
from ccstore.errors import CcError
from ccstore.model.objects import ObjectInfo
from ccstore.store import verify
from ccstore.store.session import Session
from ccstore.store.store import Store
from tests.conftest import unmet
from tests.store.samples import needs_mount


def base(session: Session) -> ObjectInfo:
    with session.staging("base") as staging:
        tree = staging / "out"
        for name in ("a/one", "a/two", "a/deep/three", "b/four", "b/five", "top"):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(f"text of {name}")
        (tree / "a/one").chmod(0o755)
        (tree / "link").symlink_to("a/one")
        return session.register(tree, "base")


def set_opaque(folder: Path, value: bytes = b"y", name: str = "opaque") -> None:
    try:
        os.setxattr(folder, f"user.overlay.{name}", value)
    except OSError as error:
        unmet(f"this file system keeps no user attributes: {error}")


def whiteout(path: Path) -> None:
    try:
        os.mknod(path, 0o020000, os.makedev(0, 0))
    except OSError as error:
        unmet(f"no whiteout can be made here: {error}")


def names(store: Store, info: ObjectInfo) -> list[str]:
    return [entry.path for entry in store.objects.manifest(info.path)][1:]


def test_additions_and_changes(store: Store) -> None:
    with store.session() as session, session.staging("s") as staging:
        below = base(session)
        upper = staging / "upper"
        (upper / "a/new").mkdir(parents=True)
        (upper / "a/new/file").write_text("new")
        (upper / "a/two").write_text("changed")
        merged = session.register_overlay(below.path, upper, "merged")
    old, new = store.objects.path(below.path), store.objects.path(merged.path)
    assert names(store, merged) == sorted([*names(store, below), "a/new", "a/new/file"])
    assert (new / "a/two").read_text() == "changed"
    assert (old / "a/two").read_text() == "text of a/two"
    for name in ("a/one", "a/deep/three", "b/four", "top"):
        assert (new / name).samefile(old / name)
    assert (merged.nar_hash, merged.nar_size) == nar.nar_hash(new)
    assert verify.verify(store, full=True) == []


def test_whiteouts_remove_files_and_folders(store: Store) -> None:
    with store.session() as session, session.staging("s") as staging:
        below = base(session)
        upper = staging / "upper"
        (upper / "a").mkdir(parents=True)
        for name in ("a/two", "b", "link"):
            whiteout(upper / name)
        merged = session.register_overlay(below.path, upper, "merged")
    assert names(store, merged) == ["a", "a/deep", "a/deep/three", "a/one", "top"]
    assert verify.verify(store, full=True) == []


def test_opaque_folders_hide_what_is_below(store: Store) -> None:
    with store.session() as session, session.staging("s") as staging:
        below = base(session)
        upper = staging / "upper"
        (upper / "a").mkdir(parents=True)
        (upper / "a/only").write_text("x")
        set_opaque(upper / "a")
        merged = session.register_overlay(below.path, upper, "merged")
    assert names(store, merged) == ["a", "a/only", "b", "b/five", "b/four", "link", "top"]
    assert os.listxattr(store.objects.path(merged.path) / "a") == []


def test_types_can_change(store: Store) -> None:
    with store.session() as session, session.staging("s") as staging:
        below = base(session)
        upper = staging / "upper"
        (upper / "top").mkdir(parents=True)
        (upper / "top/inside").write_text("x")
        (upper / "a").write_text("a file now")
        (upper / "b").symlink_to("a")
        merged = session.register_overlay(below.path, upper, "merged")
    assert names(store, merged) == ["a", "b", "link", "top", "top/inside"]


def test_a_name_that_begins_like_a_hidden_one(store: Store) -> None:
    with store.session() as session, session.staging("s") as staging:
        with session.staging("t") as other:
            for name in ("a/x", "a-b", "a.c/y", "ab"):
                (other / "out" / name).parent.mkdir(parents=True, exist_ok=True)
                (other / "out" / name).write_text("x")
            below = session.register(other / "out", "base")
        (staging / "upper").mkdir()
        (staging / "upper/a").write_text("file")
        merged = session.register_overlay(below.path, staging / "upper", "merged")
    assert names(store, merged) == ["a", "a-b", "a.c", "a.c/y", "ab"]


def test_an_empty_upper_folder_is_the_base(store: Store) -> None:
    with store.session() as session, session.staging("s") as staging:
        below = base(session)
        (staging / "upper").mkdir()
        again = session.register_overlay(below.path, staging / "upper", "base")
    assert again == below


@pytest.mark.parametrize(("name", "value"), [("redirect", b"/a"), ("metacopy", b""), ("opaque", b"x")])
def test_features_that_cannot_be_read_back(name: str, value: bytes, store: Store) -> None:
    with store.session() as session, session.staging("s") as staging:
        below = base(session)
        (staging / "upper/a").mkdir(parents=True)
        set_opaque(staging / "upper/a", value, name)
        with pytest.raises(CcError) as caught:
            session.register_overlay(below.path, staging / "upper", "merged")
    assert caught.value.code == "output-invalid"


def test_folders_nested_too_deep(store: Store) -> None:
    with store.session() as session, session.staging("s") as staging:
        below = base(session)
        (staging / "upper" / "/".join(["d" * 100] * 29)).mkdir(parents=True)
        with pytest.raises(CcError) as refused:
            session.register_overlay(below.path, staging / "upper", "deep")
        assert refused.value.code == "output-invalid"


def test_too_many_links_mean_a_copy(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*_: object, **__: object) -> None:
        raise OSError(errno.EMLINK, "Too many links")

    monkeypatch.setattr(os, "link", no_more)
    with store.session() as session, session.staging("s") as staging:
        below = base(session)
        (staging / "upper").mkdir()
        (staging / "upper/new").write_text("x")
        merged = session.register_overlay(below.path, staging / "upper", "merged")
    place = store.objects.path(merged.path)
    assert not (place / "top").samefile(store.objects.path(below.path) / "top")
    assert (place / "a/one").stat().st_mode & 0o777 == 0o555
    assert verify.verify(store, full=True) == []


CHANGE = (
    "mount -t overlay overlay -o lowerdir={base},upperdir={upper},workdir={work},userxattr {merged} && "
    "cd {merged} && rm a/two && rm -r b && mkdir b && echo new > b/new && chmod -R u+w . && "
    "echo more >> a/one && mv top moved && rm -r a/deep && echo file > a/deep"
)


@needs_mount
def test_a_real_overlay(store: Store) -> None:
    with store.session() as session, session.staging("s") as staging:
        below = base(session)
        places = {name: staging / name for name in ("upper", "work", "merged")}
        for folder in places.values():
            folder.mkdir()
        script = CHANGE.format(base=store.objects.path(below.path), **places)
        done = subprocess.run(["unshare", "-rm", "sh", "-ec", script], capture_output=True, check=False)
        if b"mount" in done.stderr:
            unmet(f"no overlay can be mounted here: {done.stderr.decode()}")
        assert done.returncode == 0, done.stderr
        merged = session.register_overlay(below.path, places["upper"], "merged")
    assert names(store, merged) == ["a", "a/deep", "a/one", "b", "b/new", "link", "moved"]
    assert (store.objects.path(merged.path) / "moved").read_text() == "text of top"
    assert verify.verify(store, full=True) == []
