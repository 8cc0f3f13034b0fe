"""image_tree.py: an archive unpacked by an ordinary user, and links that lead out of it."""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from pathlib import Path

import pytest

from ccstore.builders import guest_tree
from ccstore.builders.image_tree import unpack
from ccstore.guest import enter
from tests.builders.images import image
from tests.builders.tars import Written, entry, file, folder, hardlink, symlink, tar


def unpacked(place: Path, *entries: Written) -> Path:
    archive = place / "root.tar"
    archive.write_bytes(tar(entries))
    unpack(archive, place / "root", ordinary=True)
    return place / "root"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that no archive may change."""
    path = tmp_path / "outside"
    path.write_text("mine")
    path.chmod(0o600)
    return path


def test_files_folders_and_links(tmp_path: Path) -> None:
    found = unpacked(
        tmp_path,
        folder("a"),
        entry("a/b", b"content", mode=0o640),
        symlink("a/c", "b"),
        hardlink("d", "a/b"),
        entry("e", type=tarfile.FIFOTYPE, mode=0o600),
    )
    assert (found / "d").samefile(found / "a/b")
    assert (found / "d").read_bytes() == b"content"
    assert stat.S_IMODE((found / "a/b").stat().st_mode) == 0o640
    assert (found / "a/c").readlink() == Path("b")
    assert stat.S_ISFIFO((found / "e").stat().st_mode)
    assert (found / "a").stat().st_mtime == 0


def test_another_name_of_a_link_is_that_link_again(tmp_path: Path, outside: Path) -> None:
    link, content = hardlink("b", "a")
    link.mode = 0o777
    found = unpacked(tmp_path, symlink("a", str(outside)), (link, content))
    assert (found / "a").readlink() == (found / "b").readlink() == outside
    assert stat.S_IMODE(outside.stat().st_mode) == 0o600


def test_a_layer_with_such_names_leaves_the_host_alone(tmp_path: Path, outside: Path) -> None:
    """All the way that a container's root takes."""
    from ccstore.builders import guest_layers

    (tmp_path / "scratch").mkdir()
    link, content = hardlink("b", "a")
    link.mode = 0o777
    layout = image(tmp_path / "image", [symlink("a", str(outside)), (link, content)])
    tree = guest_layers.read_image(layout, tmp_path / "scratch").tree
    guest_tree.write_tar(tree, tmp_path / "root.tar", 1)
    with tarfile.open(tmp_path / "root.tar") as archive:
        assert [each.type for each in archive] == [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.SYMTYPE]
    descriptor = os.open(tmp_path / "root.tar", os.O_RDONLY)
    try:
        enter.unpack(descriptor, str(tmp_path / "root"))
    finally:
        os.close(descriptor)
    assert (tmp_path / "root/b").readlink() == outside
    assert stat.S_IMODE(outside.stat().st_mode) == 0o600


def test_devices_and_owners_that_are_refused_are_left_out(tmp_path: Path) -> None:
    device, _ = entry("null", type=tarfile.CHRTYPE)
    device.devmajor, device.devminor = 1, 3
    owned, content = file("owned")
    owned.uid = owned.gid = 0
    found = unpacked(tmp_path, (device, b""), hardlink("again", "null"), (owned, content))
    assert [each.name for each in found.iterdir()] == ["owned"]


@pytest.mark.parametrize(
    "name", ["link/x", "../x", "/x", "folder/../x", "no-folder/x", "file/x", "link", "file", "folder", ".."]
)
@pytest.mark.parametrize("make", [file, folder, lambda name: symlink(name, "x")], ids=str)
def test_nothing_gets_out_or_takes_a_place(tmp_path: Path, outside: Path, name: str, make: object) -> None:
    (tmp_path / "elsewhere").mkdir()
    entries = [folder("folder"), file("file"), symlink("link", "../elsewhere"), make(name)]  # type: ignore[operator]
    with pytest.raises(OSError) as caught:
        unpacked(tmp_path, *entries)
    assert caught.value.errno in (errno.EINVAL, errno.EEXIST, errno.EISDIR)
    assert not any((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("target", ["outside", "../outside", "folder", "later", "self"])
def test_a_hard_link_to_no_file_of_the_archive(tmp_path: Path, outside: Path, target: str) -> None:
    with pytest.raises(OSError) as caught:
        unpacked(tmp_path, folder("folder"), hardlink("self", target), file("later"))
    assert caught.value.errno == errno.EINVAL
