"""guest_root.py: components put together, what comes out in the archive, and what is wrong with a description."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import zstandard

from ccstore.recipe.lower_guest import ROOT_SCRIPTS
from tests.builders.conftest import MakeStep
from tests.builders.guestkit import Kit, tree
from tests.builders.images import image, write_layout
from tests.builders.tars import file, tar


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit(tmp_path)


# the archive


def test_what_is_always_there(kit: Kit) -> None:
    with kit.archive() as archive:
        modes = {each.name: each.mode for each in archive if each.isdir()}
        init = archive.getmember("init")
    assert {"dev", "etc", "mnt", "proc", "run", "sys", "tmp", "var"} < set(modes)
    assert modes["tmp"] == 0o1777
    assert modes["."] == 0o755
    assert (init.linkname, init.issym()) == ("/sbin/init", True)


def test_sbin_init_for_a_component_that_brings_init(kit: Kit) -> None:
    shutil.rmtree(kit.inputs / "image-00")
    tree(kit.inputs / "image-00", {"init*": "x"})
    with kit.archive() as archive:
        assert archive.getmember("sbin/init").linkname == "/init"


def test_the_archive_is_sorted_and_depends_on_nothing_else(kit: Kit) -> None:
    kit.guest["init"] = ["pid1", "box"]
    with kit.archive() as archive:
        entries = archive.getmembers()
        assert [each.name for each in entries] == sorted(each.name for each in entries)
        assert {(each.mtime, each.uid, each.gid, each.uname, each.gname) for each in entries} == {
            (1, 0, 0, "", "")
        }
        assert archive.getmember("bin/tool").mode == 0o755
        assert archive.getmember("etc/passwd").mode == 0o644
    paths = list(kit.inputs.parent.glob("rootfs-*.tar"))
    (kit.inputs / "image-01/bin/tool").touch()
    with kit.archive() as archive:
        assert Path(str(archive.name)).read_bytes() == paths[0].read_bytes()


def test_equal_files_are_shared(kit: Kit) -> None:
    kit.guest["init"] = ["pid1", "box"]
    kit.serve(readonly=True)
    with kit.archive() as archive:
        shared = archive.getmember("containers/images/box/bin/tool")
        assert (shared.islnk(), shared.linkname) == (True, "bin/tool")
        assert not archive.getmember("containers/images/box/etc/group").islnk()


def test_a_later_component_wins_and_links_to_folders_are_followed(kit: Kit) -> None:
    tree(kit.inputs / "image-02", {"lib/x": "new", "sbin/init*": "other"})
    kit.guest["images"]["late"] = "image-02"
    kit.guest["init"] = ["pid1", "box", "late"]
    with kit.archive() as archive:
        assert archive.getmember("lib").linkname == "usr/lib"
        assert archive.getmember("usr/lib/x").size == 3
    assert kit.text("sbin/init") == "other"


def test_a_folder_and_a_file_of_one_name(kit: Kit) -> None:
    tree(kit.inputs / "image-02", {"bin": "a file"})
    kit.guest["images"]["late"] = "image-02"
    kit.guest["init"] = ["pid1", "box", "late"]
    found = kit.error()
    assert (found.code, found.place) == ("path-conflict", "init.2")


def test_nobody_brings_an_init(kit: Kit) -> None:
    kit.guest["init"] = ["box"]
    found = kit.error()
    assert (found.code, found.place) == ("path-missing", "init")
    kit.guest["boots"] = False
    kit.build()


def test_sizes_by_component(kit: Kit) -> None:
    kit.guest["init"] = ["pid1", "box"]
    kit.serve()
    kit.guest["files"] = [{"path": "etc/motd", "contents": "12345"}]
    sizes = kit.build().sizes
    assert (sizes["files"], sizes["pid1"], sizes["box"]) == (5, 4 + 31, 2 * (5000 + 12))
    assert sizes["configuration"] > 0


# files and attributes


def test_files(kit: Kit) -> None:
    (kit.inputs / "source-03").write_text("from the project")
    kit.serve()
    kit.guest["files"] = [
        {"path": "etc/secret", "contents": "s", "uid": "s0", "gid": 9},
        {"path": "srv/deep/open", "contents": "o", "mode": "0644"},
        {"path": "srv/dir", "directory": True},
        {"path": "srv/copy", "source": "source-03", "mode": "0755", "uid": "web"},
        {"path": "etc/mtab", "symlink": "/proc/mounts"},
    ]
    found = dict(kit.build().tree.root.walk(""))
    assert (found["etc/secret"].mode, found["etc/secret"].uid, found["etc/secret"].gid) == (0o600, 100, 9)
    assert (found["srv/deep/open"].mode, found["srv/deep"].mode) == (0o644, 0o755)
    assert (found["srv/dir"].mode, found["srv/dir"].is_folder) == (0o700, True)
    assert (found["srv/copy"].mode, found["srv/copy"].uid) == (0o755, 33)
    assert found["srv/copy"].body.read() == b"from the project"
    assert found["etc/mtab"].target == "/proc/mounts"
    kit.guest["files"] = [{"path": "x", "contents": "", "uid": "nobody-knows"}]
    assert kit.error().place == "files.0.uid"


def test_a_file_below_a_file(kit: Kit) -> None:
    kit.guest["files"] = [{"path": "sbin/init/x", "contents": ""}]
    found = kit.error()
    assert (found.code, found.place) == ("path-conflict", "files.0")


def test_attributes(kit: Kit) -> None:
    kit.guest["attributes"] = [
        {"path": "sbin/init", "mode": "4711", "uid": 5, "gid": 6},
        {"path": "dev/null", "device": "c 1 3", "mode": "0666"},
    ]
    with kit.archive() as archive:
        init, null = archive.getmember("sbin/init"), archive.getmember("dev/null")
    assert (init.mode, init.uid, init.gid) == (0o4711, 5, 6)
    assert (null.ischr(), null.devmajor, null.devminor, null.mode) == (True, 1, 3, 0o666)
    kit.guest["attributes"] = [{"path": "sbin/nothing", "mode": "0755"}]
    found = kit.error()
    assert (found.code, found.place) == ("path-missing", "attributes.0.path")


# in the sandbox


def test_the_same_in_the_sandbox(kit: Kit, step: MakeStep, tmp_path: Path) -> None:
    """With its own Python, and zstd, which Python 3.11 does not bring."""
    image(
        kit.inputs / "image-02",
        [file("app", b"a" * 9000)],
        compress=zstandard.ZstdCompressor().compress,
        config={"Cmd": ["/app"]},
    )
    kit.guest["images"]["foreign"] = "image-02"
    kit.guest["services"] = [{"name": "app", "image": "foreign"}]
    build = step("/usr/bin/python3", "/in/.builder/guest_root.py", files=ROOT_SCRIPTS)
    inputs = {path.name: path for path in kit.inputs.iterdir()}
    texts = {"guest.json": json.dumps(kit.guest)}
    out = build.run(inputs, texts=texts).out
    sizes = json.loads((out / "sizes.json").read_text())
    assert sizes["components"]["foreign"] == 9000
    with tarfile.open(out / "rootfs.tar") as archive:
        assert archive.getmember("containers/images/foreign/app").size == 9000
    assert (
        build.run(inputs, texts=texts).out.joinpath("rootfs.tar").read_bytes()
        == (out / "rootfs.tar").read_bytes()
    )
    kit.guest["init"] = []
    failed = build.run(inputs, texts={"guest.json": json.dumps(kit.guest)})
    assert failed.exit_status == 1
    assert (failed.report["code"], failed.report["input"]) == ("path-missing", "init")


def test_a_layer_that_zstd_refuses(kit: Kit, step: MakeStep) -> None:
    layer = tar([file("a", b"b" * 50_000)])
    image_folder = kit.inputs / "image-01"
    shutil.rmtree(image_folder)
    write_layout(image_folder, [layer], compress=lambda data: b"\x28\xb5\x2f\xfd" + data[:99])
    kit.guest["init"] = ["pid1", "box"]
    build = step("/usr/bin/python3", "/in/.builder/guest_root.py", files=ROOT_SCRIPTS)
    inputs = {path.name: path for path in kit.inputs.iterdir()}
    failed = build.run(inputs, texts={"guest.json": json.dumps(kit.guest)})
    assert (failed.report["code"], failed.report["input"]) == ("image-corrupt", "init.1")
