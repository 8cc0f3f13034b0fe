"""Every bootable format, booted: the same root each time, read-only where it is a disk, and nothing is written to it.

The root holds a shell script as init and everything that only the description of a guest can give: owners, modes,
devices, hard links, names of any bytes. The script lists it all, and the list must be the same in every format.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ccstore.guest.boot import BootImage
from ccstore.guest.options import Options
from ccstore.guest.qemu import Wiring, arguments
from ccstore.ports import Tree
from ccstore.recipe.guest import FORMATS
from ccstore.recipe.lower_guest import KERNEL_SCRIPTS
from tests.builders.conftest import Step
from tests.conftest import REPOSITORY, Shell, clone_store, write
from tests.formats import BOOTABLE, Images
from tests.rootfs import ODD, Entry, body_of, folder, write_rootfs

CMDLINE = "console=ttyS0 panic=-1 reboot=t i8042.noaux=1 no_timer_check"
KINDS = {
    tarfile.REGTYPE: stat.S_IFREG,
    tarfile.LNKTYPE: stat.S_IFREG,
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}
MARKER = "formats: the root is there"
INIT = f"""#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc none /proc
echo 1 >/proc/sys/kernel/printk
$b stty -onlcr
echo "{MARKER}"
while read -r _ place type options _; do
    [ "$place" = / ] && echo "mount: $type $options"
done </proc/mounts
$b touch /written 2>/dev/null && echo "writable: yes" || echo "writable: no"
$b find /odd -exec $b stat -c 'stat: %f %u %g %h %t %T %s %Y %n' {{}} +
$b find /odd -type f -exec $b md5sum {{}} + | while IFS= read -r line; do echo "md5: $line"; done
$b reboot -f
"""


@dataclass(frozen=True)
class Run:
    """What a guest said; names may hold any bytes."""

    console: str

    def said(self, word: str) -> list[str]:
        return re.findall(rf"^{word}: (.*)$", self.console.replace("\r", ""), re.MULTILINE)


def root(busybox: Path) -> list[Entry]:
    return [
        folder("bin"),
        Entry("bin/busybox", content=busybox.read_bytes(), mode=0o755),
        folder("dev"),
        Entry("dev/console", tarfile.CHRTYPE, mode=0o600, device=(5, 1)),
        Entry("init", content=INIT.encode(), mode=0o755),
        folder("proc", 0o555),
        folder("sbin"),
        Entry("sbin/init", tarfile.SYMTYPE, mode=0o777, link="/init"),
        *ODD,
    ]


@pytest.fixture(scope="module")
def images(
    guest_tools: Tree, kernel: Path, tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Images:
    place = tmp_path_factory.mktemp("formats")
    rootfs = write_rootfs(place / "rootfs", root(Path(tool("busybox"))))
    return Images(guest_tools, place, rootfs, kernel.parent, CMDLINE)


@pytest.fixture(scope="module")
def boot(tool: Callable[[str], str]) -> Callable[[Path], Run]:
    """Boots a folder until the guest ends."""

    def run(bootable: Path) -> Run:
        image = BootImage.read(bootable)
        options = Options(image.machine, "tcg", image.memory, network=False)
        command = [tool("qemu-system-x86_64"), *arguments(image, options, Wiring())]
        done = subprocess.run(
            command, capture_output=True, timeout=120, check=False, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return Run(done.stdout.decode(errors="surrogateescape"))

    return run


def listed(entry: Entry) -> str:
    """A line of `stat` for an entry of the root; of a folder without its size and links, which formats count anew."""
    body = body_of(entry)
    links = sum(body_of(each) == body for each in ODD) if body.kind != tarfile.SYMTYPE else 1
    size = len(body.link) if body.kind == tarfile.SYMTYPE else len(body.content)
    count = "" if body.kind == tarfile.DIRTYPE else f" {links} {size}"
    device = f"{body.device[0]:x} {body.device[1]:x}"
    return f"{KINDS[body.kind] | body.mode:x} {body.uid} {body.gid} {device}{count} /{entry.name}"


def found(line: str) -> str:
    mode, uid, gid, links, major, minor, size, _, name = line.split(" ", 8)
    count = "" if stat.S_ISDIR(int(mode, 16)) else f" {links} {size}"
    return f"{mode} {uid} {gid} {major} {minor}{count} {name}"


@pytest.mark.parametrize("format", BOOTABLE)
def test_every_format_boots_to_the_same_root(
    images: Images, boot: Callable[[Path], Run], format: str
) -> None:
    out = images.of(format).out
    before = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in out.iterdir()}
    run = boot(out)
    assert MARKER in run.console, run.console
    assert sorted(map(found, run.said("stat"))) == sorted(map(listed, ODD))
    sums = {line[34:]: line[:32] for line in run.said("md5")}
    for entry in ODD:
        if entry.kind == tarfile.REGTYPE:
            assert sums[f"/{entry.name}"] == hashlib.md5(entry.content).hexdigest()
    if format.endswith("initrd"):
        assert run.said("writable") == ["yes"]
    else:
        [mount] = run.said("mount")
        assert mount.split()[1].split(",")[0] == "ro"
        assert run.said("writable") == ["no"]
        assert {line.split(" ", 8)[7] for line in run.said("stat")} == {"1"}
    assert {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in out.iterdir()} == before


def test_pmem_is_mapped_and_not_copied(images: Images, boot: Callable[[Path], Run]) -> None:
    [mount] = boot(images.of("vmlinux+pmem").out).said("mount")
    assert "dax=always" in mount


# --- verity -----------------------------------------------------------------------------------------------------


@pytest.fixture
def verified(images: Images, tmp_path: Path) -> Path:
    """A copy of the verified image that a test may damage."""
    return Path(shutil.copytree(images.of("vmlinux+erofs+verity").out, tmp_path / "verified"))


@pytest.mark.parametrize("part", ["data", "hash"])
def test_a_flipped_bit_is_refused(verified: Path, boot: Callable[[Path], Run], part: str) -> None:
    offset = json.loads((verified / "boot.json").read_text())["verity"][f"{part}-offset"]
    with (verified / "root.img").open("r+b") as image:
        image.seek(offset)
        byte = image.read(1)[0]
        image.seek(offset)
        image.write(bytes([byte ^ 0x10]))
    run = boot(verified)
    assert MARKER not in run.console
    what = {"data": "data", "hash": "metadata"}[part]
    assert re.search(rf"verity: .*: {what} block \d+ is corrupted", run.console), run.console
    assert "Kernel panic" in run.console


def test_a_wrong_root_hash_is_refused(verified: Path, boot: Callable[[Path], Run]) -> None:
    text = (verified / "boot.json").read_text()
    right = json.loads(text)["verity"]["root-hash"]
    wrong = right[:-1] + ("0" if right[-1] != "0" else "1")
    (verified / "boot.json").write_text(text.replace(f"sha256 {right}", f"sha256 {wrong}"))
    run = boot(verified)
    assert MARKER not in run.console
    assert "is corrupted" in run.console


def test_what_kata_makes_of_its_parameters_boots(verified: Path, boot: Callable[[Path], Run]) -> None:
    value = json.loads((verified / "boot.json").read_text())
    kata = dict(item.split("=") for item in value["verity"]["kata"].split(","))
    blocks, size, hash_size = (
        int(kata[key]) for key in ("data_blocks", "data_block_size", "hash_block_size")
    )
    table = f"0 {blocks * size // 512} verity 1 /dev/vda1 /dev/vda2 {size} {hash_size} {blocks} 0 sha256"
    create = f'dm-mod.create="dm-verity,,,ro,{table} {kata["root_hash"]} {kata["salt"]}"'
    value["cmdline"] = f"{CMDLINE} {create} root=/dev/dm-0 ro rootfstype=erofs"
    (verified / "boot.json").write_text(json.dumps(value))
    assert MARKER in boot(verified).console


# --- a foreign kernel -------------------------------------------------------------------------------------------


def test_a_vmlinux_out_of_a_bzimage_boots(
    images: Images, guest_tools: Tree, kernel: Path, boot: Callable[[Path], Run], tmp_path: Path
) -> None:
    argv = ("/usr/bin/python3", "/in/.builder/vmlinux.py")
    step = Step(guest_tools, tmp_path / "extract", argv, KERNEL_SCRIPTS)
    extracted = step.run({"image": kernel.with_name("bzImage")}, {"BINARY": ""}).out
    bootable = shutil.copytree(images.of("vmlinux+initrd").out, tmp_path / "foreign")
    shutil.copyfile(extracted / "vmlinux", bootable / "vmlinux")
    assert MARKER in boot(bootable).console


# --- recipes ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twins(
    guest_tools: Tree,
    guest_store: Path,
    kernel: Path,
    tool: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Shell]:
    """Two projects with the same guest, each with a store of its own."""
    return [
        twin(tmp_path_factory.mktemp(name), guest_store, kernel, Path(tool("busybox")))
        for name in ("one", "other")
    ]


def twin(place: Path, guest_store: Path, kernel: Path, busybox: Path) -> Shell:
    project = place / "project"
    write(project / "recipes/ccstore.yml", "project: formats\n")
    shutil.copytree(kernel.parent, project / "kernel")
    write(project / "root/init", INIT).chmod(0o755)
    (project / "root/bin").mkdir()
    shutil.copy(busybox, project / "root/bin/busybox")
    write(project / "recipes/linux.yml", "kind: path\npath: ../kernel\n")
    write(project / "recipes/root.yml", "kind: path\npath: ../root\n")
    guest = f"import: [{REPOSITORY / 'recipes/guest-tools.yml'}]\nkind: guest\nkernel: {{image: linux}}\n"
    guest += "init: [root]\nattributes: [{path: bin/busybox, mode: '4755', gid: 7}]\n"
    write(project / "recipes/guest.yml", guest)
    return Shell(project, clone_store(guest_store, place / "store"))


def test_two_stores_give_equal_paths(twins: list[Shell]) -> None:
    targets = [f"guest.{format}" for format in FORMATS]
    one, other = ([each.name for each in shell.realize(*targets)] for shell in twins)
    assert one == other
    assert len(set(one)) == len(FORMATS)


def test_a_guest_is_exported_as_an_image_with_its_owners_and_modes(
    twins: list[Shell], tmp_path: Path
) -> None:
    said = set()
    for number, shell in enumerate(twins):
        words = ("guest", "--to", "oci-archive", "--output", str(tmp_path / f"{number}.tar"))
        said.add(shell.run("export", *words, "--tag", "guests/tiny:v1").stdout)
    assert (tmp_path / "0.tar").read_bytes() == (tmp_path / "1.tar").read_bytes()
    with tarfile.open(tmp_path / "0.tar") as archive:
        [entry] = member(archive, "index.json")["manifests"]
        assert said == {f"{entry['digest']}\n"}
        [layer] = member(archive, blob(entry["digest"]))["layers"]
        packed = archive.extractfile(blob(layer["digest"]))
        with tarfile.open(fileobj=packed, mode="r:gz") as root:
            found = {each.name.removeprefix("./"): each for each in root}
    busybox = found["bin/busybox"]
    assert (busybox.mode, busybox.uid, busybox.gid, busybox.mtime) == (0o4755, 0, 7, 1)
    assert found["init"].mode == 0o755


def blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def member(archive: tarfile.TarFile, name: str) -> Any:
    file = archive.extractfile(name)
    assert file is not None
    return json.loads(file.read())
