"""NARs that become objects: the same as trees that are registered, whatever the process's umask, and never more."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from ccstore.codec import nar
from ccstore.codec.nar import dump, nar_hash
from ccstore.errors import CcError
from ccstore.model.hashes import Sha256
from ccstore.store.files import remove
from ccstore.store.store import Store
from ccstore.store.verify import verify
from tests.codec.trees import TREES
from tests.store.samples import listing, make_tree


def dumped(tree: Path) -> bytes:
    sink = io.BytesIO()
    dump(tree, sink.write)
    return sink.getvalue()


def facts(tree: Path) -> list[tuple[object, ...]]:
    """Everything that canonical form is about."""
    found: list[tuple[object, ...]] = []
    for path in sorted([tree, *tree.rglob("*")]):
        status = path.lstat()
        kept = (status.st_mode, status.st_mtime_ns, status.st_uid, os.listxattr(path, follow_symlinks=False))
        found.append((path.relative_to(tree), *kept))
    return found


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o777, 0])
def test_a_nar_becomes_what_its_tree_becomes(store: Store, tmp_path: Path, umask: int) -> None:
    if umask & 0o700 and os.geteuid() != 0:
        pytest.skip("only root can use a folder that was closed to whoever made it")
    trees: dict[str, Callable[[Path], object]] = {**TREES, "sample": make_tree}
    for name, make in trees.items():
        make(tmp_path / name)
        data = dumped(tmp_path / name)
        digest, _ = nar_hash(tmp_path / name)
        with store.session() as session:
            one = session.add(tmp_path / name, f"{name}-1")
            before = os.umask(umask)
            try:
                other = session.register_nar(io.BytesIO(data), f"{name}-2", digest)
            finally:
                os.umask(before)
        assert (one.nar_hash, one.nar_size) == (other.nar_hash, other.nar_size)
        assert facts(store.objects.path(one.path)) == facts(store.objects.path(other.path))
        assert list(store.objects.manifest(one.path)) == list(store.objects.manifest(other.path))
    assert verify(store, True, lambda event: None) == []


USER_OBJ, USER, GROUP_OBJ, MASK, OTHER = 1, 2, 4, 16, 32


def acl(*tags: int) -> bytes:
    """An access control list by which all may do everything (linux/posix_acl_xattr.h)."""
    return struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, 7, 1 if tag == USER else 0xFFFFFFFF) for tag in tags
    )


def test_large_files_and_attributes_that_are_inherited(store: Store, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "large").write_bytes(os.urandom(nar.CHUNK * 2 + 3))
    os.setxattr(store.layout.objects, "system.posix_acl_default", acl(USER_OBJ, USER, GROUP_OBJ, MASK, OTHER))
    with store.session() as session:
        digest, size = nar_hash(tree)
        info = session.register_nar(io.BytesIO(dumped(tree)), "sample", digest)
    assert info.nar_size == size
    assert all(fact[-1] == [] for fact in facts(store.objects.path(info.path)))
    assert verify(store, True, lambda event: None) == []


def test_what_is_not_wanted_leaves_nothing(store: Store, tmp_path: Path) -> None:
    data = dumped(make_tree(tmp_path / "tree"))
    good = Sha256.of(data)
    for wrong, digest, code in (
        (data, Sha256.of(b""), "hash-mismatch"),
        (data[:-1], good, "nar-invalid"),
        (data + b"x", good, "nar-invalid"),
        (data.replace(b"hello", b"hallo"), good, "hash-mismatch"),
        (data.replace(b"bin\0", b"../\0"), good, "nar-invalid"),
    ):
        with store.session() as session, pytest.raises(CcError) as caught:
            session.register_nar(io.BytesIO(wrong), "sample", digest)
        assert caught.value.code == code
        assert listing(store.layout.objects) == []
        assert listing(store.layout.manifests) == []


def deep(depth: int) -> bytes:
    entry = nar.ENTRY + nar.string(b"d") + nar.NODE
    return (
        nar.MAGIC
        + (nar.DIRECTORY + entry) * depth
        + nar.DIRECTORY
        + nar.CLOSE
        + (nar.CLOSE + nar.CLOSE) * depth
    )


def test_depth_is_bounded_and_files_that_are_open_too(store: Store) -> None:
    with store.session() as session:
        data = deep(1300)  # more than there can be open files, as a rule
        info = session.register_nar(io.BytesIO(data), "deep", Sha256.of(data))
        assert info.nar_size == len(data)
        data = deep(1500)
        with pytest.raises(CcError) as caught:
            session.register_nar(io.BytesIO(data), "deep", Sha256.of(data))
    assert caught.value.code == "output-invalid"
    assert listing(store.layout.objects) == [info.path.base]


class Failing:
    """A stream that breaks off with an error of its own."""

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(100)
        if not data:
            raise CcError("unreachable", "the network went away")
        return data


def test_a_stream_that_fails_ends_the_registration(store: Store, tmp_path: Path) -> None:
    data = dumped(make_tree(tmp_path / "tree"))
    with store.session() as session, pytest.raises(CcError) as caught:
        session.register_nar(Failing(data[:-8]), "sample", Sha256.of(data))
    assert caught.value.code == "unreachable"
    assert listing(store.layout.objects) == []
    remove(tmp_path / "tree")
