"""A guest's root by the command line: what a person sees of it, and of what is wrong in it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.builders.images import digest_of, image
from tests.builders.tars import entry, file, symlink, tar
from tests.conftest import Shell, toolchain_import, write

GUEST = """\
kind: guest
tools: toolchain
kernel: {image: pid1}
init:
  - pid1
  - %(image)s
services:
  - name: agent
    image: box
    command: [/bin/tool]
    binds:
      - /dev:/dev
      - /etc/%(bound)s:/etc/motd
files:
  - {path: etc/motd, contents: hello}
"""


@pytest.fixture
def shell(guest_store: Path, tmp_path: Path) -> Shell:
    root = tmp_path / "project"
    write(root / "recipes/ccstore.yml", "project: guests\n")
    write(root / "recipes/import.yml", toolchain_import())
    for name, path in (("pid1", "sbin/init"), ("box", "bin/tool")):
        write(root / f"recipes/{name}.yml", f"kind: path\npath: ../{name}\n")
        write(root / name / path, name).chmod(0o755)
    write_guest(root)
    return Shell(root, guest_store)


def write_guest(root: Path, image: str = "box", bound: str = "motd") -> None:
    write(root / "recipes/vm.yml", GUEST % {"image": image, "bound": bound})


def layout(root: Path, app: str = "app") -> str:
    """An OCI image in the project, and how a recipe names it."""
    foreign = image(root / "images/foreign", [file(app), entry("bin/.wh.tool"), symlink("latest", "app")])
    digest = json.loads((foreign / "index.json").read_text())["manifests"][0]["digest"]
    return f"oci:../images/foreign@{digest}"


def test_a_root_of_trees_and_of_an_image(shell: Shell) -> None:
    write_guest(shell.project, layout(shell.project))
    [out] = shell.realize("vm.rootfs")
    with tarfile.open(out / "rootfs.tar") as archive:
        names = archive.getnames()
    assert {"sbin/init", "app", "latest", "containers/services/000-agent/config.json"} < set(names)
    assert shell.path("vm.rootfs") == out
    assert shell.run("realize", "vm.rootfs").stdout == f"{out}\n"


def test_names_of_formats_are_targets(shell: Shell) -> None:
    assert "vm.vmlinux+erofs+verity" in shell.run("graph", "vm.vmlinux+erofs+verity").stdout
    shown = json.loads(shell.run("show", "vm").stdout)
    assert shown[0]["step"] == "vm.vmlinux+initrd"
    listed = json.loads(shell.run("list", "--json").stdout)
    assert [row["state"] for row in listed if (row["target"], row["kind"]) == ("vm", "guest")] == ["missing"]
    missing = shell.run("path", "vm.kernel+squashfs", status=5)
    assert "vm.kernel+squashfs" in missing.stderr
    assert "did you mean vm.vmlinux+erofs" in shell.run("path", "vm.vmlinux+erof", status=2).stderr


def test_a_bind_of_what_is_not_there_is_shown_in_the_recipe(shell: Shell) -> None:
    write_guest(shell.project, bound="nothing")
    found = shell.run("realize", "vm.rootfs", status=2)
    assert "path-missing" in found.stderr
    assert "recipes/vm.yml:13:9" in found.stderr
    assert found.stdout == ""


def test_an_image_that_is_not_what_it_says(shell: Shell) -> None:
    """Its manifest and its layer are whole, but the layer is another than its configuration wants."""
    root = shell.project
    foreign = image(root / "images/foreign", [file("app")], diff_ids=[digest_of(tar([file("other")]))])
    digest = json.loads((foreign / "index.json").read_text())["manifests"][0]["digest"]
    write_guest(root, f"oci:../images/foreign@{digest}")
    found = shell.run("realize", "vm.rootfs", status=3)
    assert "image-corrupt" in found.stderr
    assert "recipes/vm.yml:6:5" in found.stderr


def test_an_image_with_a_link_that_leads_out(shell: Shell) -> None:
    root = shell.project
    foreign = image(root / "images/foreign", [symlink("a/b", "../../../etc/passwd")])
    digest = json.loads((foreign / "index.json").read_text())["manifests"][0]["digest"]
    write_guest(root, f"oci:../images/foreign@{digest}")
    found = shell.run("realize", "vm.rootfs", status=3)
    assert "archive-refused" in found.stderr
    assert "recipes/vm.yml:6:5" in found.stderr


def test_a_corrupt_layer_never_gets_into_the_store(shell: Shell) -> None:
    name = layout(shell.project, "another")  # the tests share a store, which has the other one
    [layer] = [
        each
        for each in (shell.project / "images/foreign/blobs/sha256").iterdir()
        if each.stat().st_size > 4000
    ]
    layer.write_bytes(layer.read_bytes()[:-1] + b"x")
    write_guest(shell.project, name)
    found = shell.run("realize", "vm.rootfs", status=4)
    assert layer.name in found.stderr
