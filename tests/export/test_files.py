"""Archives and folders: complete, the same each time, and only there when they are whole."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from ccstore.codec.nar import nar_hash
from ccstore.codec.oci import Reference, blob_path
from ccstore.errors import CcError
from ccstore.export.archive import image_archive, tree_archive
from ccstore.export.image import Image, names
from ccstore.export.place import new, write_layout, write_tree
from ccstore.ports import Tree
from ccstore.store.store import Store
from tests.export.conftest import SAMPLE


def unpack(data: bytes, to: Path) -> None:
    """What a user's tar makes of an archive."""
    to.mkdir()
    subprocess.run(["tar", "-xf", "-", "-C", str(to)], input=data, check=True)


NAMES = [Reference.parse("guest/kernel:6.1.x"), Reference.parse("localhost:5000/kernel:v1")]


def test_a_layout_names_the_image_and_is_whole(image: Image, tmp_path: Path) -> None:
    write_layout(image, NAMES, tmp_path / "out")
    entries = json.loads((tmp_path / "out/index.json").read_text())["manifests"]
    assert {each["digest"] for each in entries} == {f"sha256:{SAMPLE.sha256.hex}"}
    assert [each["annotations"]["org.opencontainers.image.ref.name"] for each in entries] == ["6.1.x", "v1"]
    for data in SAMPLE.blobs().values():
        assert data in [path.read_bytes() for path in (tmp_path / "out/blobs/sha256").iterdir()]


def test_an_archive_is_a_layout_and_what_docker_reads(image: Image, tmp_path: Path) -> None:
    data = b"".join(image_archive(image, NAMES))
    unpack(data, tmp_path / "out")
    write_layout(image, NAMES, tmp_path / "expected")
    [entry] = json.loads((tmp_path / "out/manifest.json").read_text())
    (tmp_path / "out/manifest.json").unlink()
    assert nar_hash(tmp_path / "out") == nar_hash(tmp_path / "expected")
    assert entry["RepoTags"] == ["guest/kernel:6.1.x", "localhost:5000/kernel:v1"]
    assert entry["Config"] == f"blobs/sha256/{image.manifest.config.digest.hex}"
    assert data == b"".join(image_archive(image, NAMES))


def test_an_image_without_names(image: Image, tmp_path: Path) -> None:
    write_layout(image, [], tmp_path / "out")
    [entry] = json.loads((tmp_path / "out/index.json").read_text())["manifests"]
    assert entry["digest"] == image.digest
    assert blob_path(tmp_path / "out", SAMPLE.sha256).read_bytes() == SAMPLE.manifest
    assert names(image, "kernel", []) != []


def test_the_tar_of_an_object_unpacks_to_it(tree: Tree, tmp_path: Path) -> None:
    data = b"".join(tree_archive(tree, "sample"))
    unpack(data, tmp_path / "out")
    assert nar_hash(tmp_path / "out")[0] == tree.nar_hash
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert {(each.uid, each.gid, each.mtime) for each in tar} == {(0, 0, 1)}
    assert data == b"".join(tree_archive(tree, "sample"))


def test_an_object_that_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    with Store.open(tmp_path / "store") as store, store.session() as session:
        tree = store.objects.tree(session.add(tmp_path / "tool", "tool").path)
        unpack(b"".join(tree_archive(tree, "named")), tmp_path / "out")
        write_tree(tree, tmp_path / "copy")
        assert nar_hash(tmp_path / "out/named")[0] == nar_hash(tmp_path / "copy")[0] == tree.nar_hash


def test_a_full_disk(tmp_path: Path) -> None:
    def export() -> None:
        with new(tmp_path / "out") as part:
            part.symlink_to("/dev/full")
            part.write_bytes(b"x")

    with pytest.raises(CcError) as caught:
        export()
    assert caught.value.code == "disk-full"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_a_writable_copy(tree: Tree, tmp_path: Path) -> None:
    write_tree(tree, tmp_path / "out")
    assert nar_hash(tmp_path / "out")[0] == tree.nar_hash
    (tmp_path / "out/bin/tool").write_text("changed")
    assert nar_hash(tree.path)[0] == tree.nar_hash
    assert (tmp_path / "out/bin/tool").stat().st_nlink == 1


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(CcError) as caught, new(tmp_path / "out"):
        raise AssertionError("the block is not entered")
    assert caught.value.code == "output-exists"
    assert (tmp_path / "out").read_text() == "precious"


def test_a_link_to_nowhere_is_there_too(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("nowhere")
    with pytest.raises(CcError) as caught, new(tmp_path / "out"):
        raise AssertionError("the block is not entered")
    assert caught.value.code == "output-exists"


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with new(tmp_path / "out") as part:
            part.mkdir()
            (part / "half").write_text("")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CcError) as caught, new(tmp_path / "no/folder/out") as part:
        part.write_text("")
    assert caught.value.code == "output-refused"
