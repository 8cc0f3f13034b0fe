"""guest_layers.py: layers on top of one another, and what is wrong with an image."""

from __future__ import annotations

import json
import random
import sys
import tarfile
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccstore.builders import guest_tree
from ccstore.builders.guest_blobs import Budget
from ccstore.builders.guest_layers import MAX_LAYERS, Image, ImageWrong, is_layout, read_image
from tests.builders.images import digest_of, gzipped, image, plain, put_blob, write_layout
from tests.builders.tars import Written, entry, file, folder, hardlink, symlink, tar, with_checksum


def read(layout: Path, budget: Budget | None = None) -> Image:
    scratch = layout.with_name(layout.name + "-scratch")
    scratch.mkdir()
    return read_image(layout, scratch, budget)


def zstd(data: bytes) -> bytes:
    """In two frames, as parallel compressors make them."""
    half = len(data) // 2
    return b"".join(zstandard.ZstdCompressor().compress(each) for each in (data[:half], data[half:]))


def merged(folder: Path, *layers: Iterable[Written]) -> dict[str, str]:
    """What an image of `layers` holds: contents of files, targets of links, `/` for folders."""
    found = {}
    for path, node in read(image(folder / "image", *layers)).tree.root.walk(""):
        if node.kind == guest_tree.FILE:
            found[path] = node.body.read().decode()
        else:
            found[path] = node.target if node.kind == guest_tree.SYMLINK else "/"
    return found


def error(layout: Path, budget: Budget | None = None) -> ImageWrong:
    with pytest.raises(ImageWrong) as caught:
        read(layout, budget)
    return caught.value


# what the layers make


def test_an_upper_layer_wins(tmp_path: Path) -> None:
    assert merged(
        tmp_path, [folder("etc"), file("etc/a", b"1"), file("etc/b", b"1")], [file("etc/a", b"2")]
    ) == {
        "etc": "/",
        "etc/a": "2",
        "etc/b": "1",
    }


def test_a_whiteout_takes_a_file_or_a_folder_away(tmp_path: Path) -> None:
    lower = [file("etc/a"), file("var/lib/x"), file("var/lib/y"), file("keep")]
    assert merged(tmp_path, lower, [file("etc/.wh.a", b""), file("var/.wh.lib", b"")]) == {
        "etc": "/",
        "var": "/",
        "keep": "x",
    }


def test_a_whiteout_is_for_lower_layers_only(tmp_path: Path) -> None:
    upper = [file("etc/a", b"2"), file("etc/.wh.a", b""), file("b/new"), file("b/.wh..wh..opq", b"")]
    assert merged(tmp_path, [file("etc/a", b"1"), file("b/old")], upper) == {
        "etc": "/",
        "etc/a": "2",
        "b": "/",
        "b/new": "x",
    }


def test_an_opaque_folder_hides_all_that_was_in_it(tmp_path: Path) -> None:
    lower = [file("srv/a/b/c"), file("srv/d"), file("other")]
    assert merged(tmp_path, lower, [entry("srv/.wh..wh..opq")]) == {"srv": "/", "other": "x"}


def test_whiteouts_of_nothing_and_those_of_aufs_are_nothing(tmp_path: Path) -> None:
    upper = [file(".wh.a", b""), file("b/.wh..wh.plnk", b""), file("b/.wh..wh..opq", b"")]
    assert merged(tmp_path, [*upper, file(".wh..wh.plnk/12.34", b"x")]) == {}


def test_a_file_becomes_a_folder_and_the_other_way_round(tmp_path: Path) -> None:
    assert merged(tmp_path, [file("a"), file("b/x")], [folder("a"), file("a/y"), file("b")]) == {
        "a": "/",
        "a/y": "x",
        "b": "x",
    }


def test_a_folder_leaves_a_link_to_a_folder_alone(tmp_path: Path) -> None:
    """As merged /usr has it: a layer that was made before knows only of folders."""
    lower = [folder("usr"), folder("usr/bin"), symlink("bin", "usr/bin")]
    assert merged(tmp_path, lower, [folder("bin"), file("bin/sh")]) == {
        "usr": "/",
        "usr/bin": "/",
        "usr/bin/sh": "x",
        "bin": "usr/bin",
    }


def test_an_absolute_link_means_the_images_own_root(tmp_path: Path) -> None:
    found = merged(tmp_path, [symlink("var/run", "/run"), file("run/old")], [file("var/run/new")])
    assert found["run/new"] == "x"


def test_hard_links_are_one_file(tmp_path: Path) -> None:
    tree = read(image(tmp_path / "i", [file("a", b"content")], [hardlink("b/c", "a")])).tree
    assert tree.find("a") is tree.find("b/c")


def test_owners_modes_and_devices_are_the_layers(tmp_path: Path) -> None:
    info, content = entry("bin/su", b"x", mode=0o4755)
    info.uid, info.gid = 7, 8
    device, _ = entry("dev/null", type=tarfile.CHRTYPE, mode=0o666)
    device.devmajor, device.devminor = 1, 3
    tree = read(image(tmp_path / "i", [(info, content), (device, b"")])).tree
    su, null = tree.find("bin/su"), tree.find("dev/null")
    assert su is not None
    assert null is not None
    assert (su.mode, su.uid, su.gid) == (0o4755, 7, 8)
    assert (null.kind, null.device, null.mode) == (guest_tree.CHARACTER, (1, 3), 0o666)


@pytest.mark.parametrize("compress", [plain, gzipped, zstd])
def test_compressions(compress: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program of the host is needed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    layout = image(tmp_path / "i", [file("a", b"1" * 100_000)], compress=compress, config={"Cmd": ["/a"]})
    found = read(layout)
    node = found.tree.find("a")
    assert node is not None
    assert node.body.read() == b"1" * 100_000
    assert found.config == {"Cmd": ["/a"]}
    assert is_layout(layout)


def test_extended_attributes_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And not on the standard output, which is the command's in a container."""
    info, content = file("a")
    info.pax_headers = {"SCHILY.xattr.security.capability": "x"}
    read(write_layout(tmp_path / "i", [tar([(info, content)], tarfile.PAX_FORMAT)]))
    said = capsys.readouterr()
    assert (said.out, "attributes of 1 files are left out: 'a'" in said.err) == ("", True)


# what is refused


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        ([file("../etc/passwd")], "'..'"),
        ([file("a/../../b")], "'..'"),
        ([file("a/.wh.b/c")], "below a whiteout"),
        ([file(".wh./c")], "below a whiteout"),
        ([symlink("a", "/b/.wh.c"), file("a/d")], "name of a whiteout"),
        ([symlink("a", "../../etc")], "leads out"),
        ([symlink("a/b", "../../etc")], "leads out"),
        ([symlink("a/b", "../c/../../../etc")], "leads out"),
        ([symlink("a", "/../etc")], "leads out"),
        ([symlink("a", "")], "nothing"),
        ([hardlink("a", "../etc/passwd")], "'..'"),
        ([hardlink("a", "/etc/passwd")], "no earlier file"),
        ([folder("b"), hardlink("a", "b")], "no earlier file"),
        ([file("a"), hardlink("a", "a")], "no earlier file"),
        ([symlink("a", "b"), symlink("b", "a"), file("a/x")], "circle"),
        ([file("a"), file("a/b")], "folder is wanted"),
        ([entry("a", type=tarfile.GNUTYPE_SPARSE)], "not supported"),
    ],
    ids=str,
)
def test_what_is_not_safe_is_refused(entries: list[Written], word: str, tmp_path: Path) -> None:
    found = error(image(tmp_path / "i", entries))
    assert (found.code, word in found.message) == ("archive-refused", True), found.message


@pytest.mark.parametrize("name", [".wh.", "d/.wh.", ".wh..", "d/.wh..", ".wh...", "d/.wh..."])
def test_a_whiteout_of_no_name(name: str, tmp_path: Path) -> None:
    found = error(image(tmp_path / "i", [file("d/x"), file("y")], [file(name, b"")]))
    assert (found.code, name in found.message) == ("image-corrupt", True)


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("key", ["uid", "gid"])
@pytest.mark.parametrize("number", [-1, 2**32 - 1, 1 << 40])
def test_an_owner_that_no_file_can_have(format: int, key: str, number: int, tmp_path: Path) -> None:
    info, content = file("a")
    setattr(info, key, number)
    found = error(write_layout(tmp_path / "i", [tar([(info, content)], format)]))
    assert (found.code, key in found.message) == ("image-corrupt", True)


@pytest.mark.parametrize("size", ["-512", "-1", str(1 << 50)])
def test_a_size_that_no_file_can_have(size: str, tmp_path: Path) -> None:
    info, content = file("a")
    info.pax_headers = {"size": size}
    layer = tar([(info, content)], tarfile.PAX_FORMAT)
    assert error(write_layout(tmp_path / "i", [layer])).code == "image-corrupt"


def test_the_largest_owner(tmp_path: Path) -> None:
    info, content = file("a")
    info.uid = info.gid = 2**32 - 2
    layer = tar([(info, content)], tarfile.PAX_FORMAT)
    node = read(write_layout(tmp_path / "i", [layer])).tree.find("a")
    assert node is not None
    assert (node.uid, node.gid) == (2**32 - 2, 2**32 - 2)


@pytest.mark.parametrize(
    "entries",
    [
        [file("n" * 256)],
        [file("/".join(["n" * 200] * 21))],
        [symlink("a", "n" * 5000)],
        [file("a/" * 401 + "a")],
    ],
    ids=["name", "path", "link", "depth"],
)
def test_a_path_that_linux_cannot_hold(entries: list[Written], tmp_path: Path) -> None:
    assert error(image(tmp_path / "i", entries)).code == "archive-refused"


def test_folders_as_deep_as_they_may_be(tmp_path: Path) -> None:
    assert len(merged(tmp_path, [file("a/" * 400 + "a")])) == 401


# what would take all memory


def described(kind: bytes, size: int) -> bytes:
    """A header of an extension, which says that `size` bytes of it follow; they are a hole."""
    info, _ = entry("x", type=kind)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
def test_a_header_that_is_too_large_is_not_read(kind: bytes, tmp_path: Path) -> None:
    size = 64 << 20
    layer = described(kind, size) + bytes(size)
    layout = write_layout(tmp_path / "i", [layer], compress=gzipped)
    tracemalloc.start()
    try:
        found = error(layout)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found.code, "a header has more than" in found.message) == ("archive-refused", True)
    assert peak < 16 << 20


def test_a_header_of_a_header_of_a_header(tmp_path: Path) -> None:
    layer = described(tarfile.GNUTYPE_LONGNAME, 0) * 3000
    assert error(write_layout(tmp_path / "i", [layer])).code in ("image-corrupt", "archive-refused")


@pytest.mark.parametrize("rest", [b"", bytes(20), b"1" * 100], ids=len)
def test_a_sparse_header_that_is_cut_short(rest: bytes, tmp_path: Path) -> None:
    """More of it is to follow, and does not."""
    block = bytearray(entry("a", type=tarfile.GNUTYPE_SPARSE)[0].tobuf(tarfile.GNU_FORMAT))
    block[482] = 1
    found = error(write_layout(tmp_path / "i", [with_checksum(bytes(block)) + rest]))
    assert found.code in ("image-corrupt", "archive-refused")


@pytest.mark.parametrize(
    ("budget", "word"),
    [
        (Budget(size=30_000), "many bytes"),
        (Budget(headers=4000), "of headers"),
        (Budget(entries=3), "entries"),
    ],
    ids=str,
)
def test_what_an_image_may_take_is_of_all_its_layers(budget: Budget, word: str, tmp_path: Path) -> None:
    layers = [[file(f"{number}-a"), file(f"{number}-b")] for number in range(4)]
    assert len(merged(tmp_path, *layers)) == 8
    found = error(image(tmp_path / "i", *layers), budget)
    assert (found.code, word in found.message) == ("archive-refused", True), found.message


def test_the_number_of_layers(tmp_path: Path) -> None:
    layers = [tar([])] * (MAX_LAYERS + 1)
    assert error(write_layout(tmp_path / "i", layers)).code == "archive-refused"
    assert read(write_layout(tmp_path / "j", layers[1:])).tree.root.children == {}


def test_a_link_cannot_be_written_through(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    found = error(image(tmp_path / "i", [symlink("a", f"{'../' * 20}{tmp_path}/outside"), file("a/x")]))
    assert found.code == "archive-refused"
    found_paths = merged(tmp_path, [symlink("a", f"{tmp_path}/outside"), file("a/x")])
    assert f"{tmp_path}/outside/x".lstrip("/") in found_paths
    assert not any((tmp_path / "outside").iterdir())


def corrupt_blob(layout: Path, digest: str, data: bytes) -> None:
    (layout / "blobs/sha256" / digest.removeprefix("sha256:")).write_bytes(data)


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    layout = image(tmp_path / "i", [file("a")])
    layer = tar([file("a")])
    corrupt_blob(layout, digest_of(layer), b"X" + layer[1:])
    found = error(layout)
    assert found.code == "image-corrupt"
    assert digest_of(layer) in found.message


def test_another_content_than_the_configuration_says(tmp_path: Path) -> None:
    layer = tar([file("a")])
    found = error(write_layout(tmp_path / "i", [layer], diff_ids=[digest_of(b"")]))
    assert found.code == "image-corrupt"
    assert digest_of(layer) in found.message


@pytest.mark.parametrize("compress", [gzipped, zstd])
@pytest.mark.parametrize("change", [lambda data: data[:-40], lambda data: data[:20] + b"x" * 50 + data[70:]])
def test_a_compressed_layer_that_is_damaged(
    compress: Callable[[bytes], bytes], change: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    layer = tar([file("a", random.Random(1).randbytes(20_000))])
    found = error(write_layout(tmp_path / "i", [layer], compress=lambda data: change(compress(data))))
    assert found.code == "image-corrupt"
    assert "layer 1 of 1" in found.message


def test_zstd_that_nothing_here_can_read_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert error(write_layout(tmp_path / "i", [tar([file("a")])], compress=zstd)).code == "tool-missing"


@pytest.mark.parametrize(
    "layer", [b"", b"no archive at all", b"x" * 4096, tar([file("a", b"y" * 2000)])[:1024]]
)
def test_a_layer_that_is_no_archive(layer: bytes, tmp_path: Path) -> None:
    assert error(write_layout(tmp_path / "i", [layer])).code == "image-corrupt"


def test_a_broken_header_is_not_the_end(tmp_path: Path) -> None:
    layer = bytearray(tar([file("a"), file("b")]))
    layer[1024 + 150] ^= 1  # in the checksum of the second entry
    assert "broken header" in error(write_layout(tmp_path / "i", [bytes(layer)])).message


def test_a_missing_blob(tmp_path: Path) -> None:
    layout = image(tmp_path / "i", [file("a")])
    (layout / "blobs/sha256" / digest_of(tar([file("a")])).removeprefix("sha256:")).unlink()
    assert "is missing" in error(layout).message


def test_an_image_with_two_names_is_one(tmp_path: Path) -> None:
    layout = image(tmp_path / "i", [file("a")])
    index = json.loads((layout / "index.json").read_text())
    (layout / "index.json").write_text(json.dumps({"manifests": index["manifests"] * 2}))
    assert [path for path, _ in read(layout).tree.root.walk("")] == ["a"]


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"[]",
        b"{",
        b'{"manifests": []}',
        b'{"manifests": [1]}',
        b'{"manifests": 5}',
        b'{"manifests": null}',
        b'{"manifests": [{"platform": "x"}]}',
        b'{"manifests": [{"platform": {"os": {}}}]}',
        b'{"manifests": [{"digest": "sha256:1"}]}',
        b'{"manifests": [{}, {}]}',
        b'{"manifests": [{"platform": {"os": "linux", "architecture": "arm64"}}]}',
        b"[" * 100_000,
    ],
)
def test_an_index_that_leads_nowhere(index: bytes, tmp_path: Path) -> None:
    layout = image(tmp_path / "i", [file("a")])
    (layout / "index.json").write_bytes(index)
    assert error(layout).code == "image-corrupt"


@pytest.mark.parametrize(
    "config",
    [b"[]", b"{}", b'{"rootfs": []}', b'{"rootfs": {"diff_ids": 1}}', b'{"config": 1, "rootfs": {}}'],
)
def test_a_configuration_that_says_nothing(config: bytes, tmp_path: Path) -> None:
    layout = tmp_path / "i"
    layout.mkdir()
    manifest = {"config": put_blob(layout, config), "layers": []}
    (layout / "index.json").write_text(
        json.dumps({"manifests": [put_blob(layout, json.dumps(manifest).encode())]})
    )
    assert error(layout).code == "image-corrupt"


@pytest.mark.parametrize(
    "config",
    [[1], {"Env": "A=b"}, {"Cmd": [1]}, {"Labels": [1]}, {"Labels": {"a": {}}}, {"User": 0.5}],
    ids=str,
)
def test_a_configuration_of_another_form(config: Any, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "i", [], config)
    assert error(layout).code == "image-corrupt"


BASE = tar([folder("a"), file("a/b", b"1" * 600), symlink("c", "a"), hardlink("d", "a/b")])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, len(BASE) - 1), st.integers(0, 255)), max_size=6))
def test_a_damaged_archive_gives_a_tree_or_an_error_of_ours(
    changes: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray(BASE)
    for place, value in changes:
        data[place] = value
    try:
        tree = read(write_layout(tmp_path_factory.mktemp("damaged") / "i", [bytes(data)])).tree
    except ImageWrong as found:
        assert found.code in ("image-corrupt", "archive-refused")  # noqa: PT017
    else:
        assert all(".." not in path.split("/") for path, _ in tree.root.walk(""))
