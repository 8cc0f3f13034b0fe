"""image.py: every format from one root, the same each time, with what the recipe said of owners and devices."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import stat
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from ccstore.builders import image_cpio
from ccstore.builders.image import FORMATS as ROOT_FORMATS
from ccstore.builders.image import join_cmdline
from ccstore.builders.image_pmem import fletcher64
from ccstore.ports import Tree
from tests.builders.conftest import Built
from tests.builders.test_vmlinux import bzimage, elf
from tests.formats import BOOTABLE, Images
from tests.rootfs import ODD, Entry, body_of, folder, write_rootfs

CMDLINE = "console=ttyS0 panic=-1"
KINDS = {
    tarfile.REGTYPE: stat.S_IFREG,
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}


@pytest.fixture(scope="module")
def images(guest_tools: Tree, tmp_path_factory: pytest.TempPathFactory) -> Images:
    place = tmp_path_factory.mktemp("images")
    kernel = place / "kernel"  # which is none, but has the files of one
    kernel.mkdir()
    (kernel / "vmlinux").write_bytes(elf())
    (kernel / "bzImage").write_bytes(bzimage(elf()))
    return Images(guest_tools, place, write_rootfs(place / "rootfs", ODD), kernel, CMDLINE)


def digests(built: Built) -> dict[str, str]:
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in built.out.iterdir()}


@pytest.mark.parametrize("format", [*BOOTABLE, "tar"])
def test_two_builds_give_the_same_bytes(images: Images, format: str) -> None:
    one = images.of(format)
    until = (one.out / "sizes.json").stat().st_mtime + 1
    while time.time() < until:  # the times of files count seconds
        time.sleep(0.1)
    assert digests(images.make(format)) == digests(one)


def test_another_root_has_other_identifiers(images: Images, tmp_path: Path) -> None:
    one = images.of("vmlinux+erofs+verity").out
    rootfs = write_rootfs(tmp_path / "another", [*ODD, Entry("zebra", content=b"z")])
    other = images.make("vmlinux+erofs+verity", rootfs=rootfs).out
    salts = [json.loads((each / "boot.json").read_text())["verity"]["salt"] for each in (one, other)]
    assert salts[0] != salts[1]


# --- what a folder holds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", BOOTABLE)
def test_what_a_bootable_folder_holds(images: Images, format: str) -> None:
    out = images.of(format).out
    boot = json.loads((out / "boot.json").read_text())
    kernel = "vmlinux" if format.startswith("vmlinux") else "bzImage"
    image = "initrd.img" if format.endswith("initrd") else "root.img"
    assert sorted(each.name for each in out.iterdir()) == sorted(
        ["boot.json", "cmdline", "sizes.json", kernel, image]
    )
    assert (boot["version"], boot["name"], boot["format"]) == (1, "tiny", format)
    assert (boot["kernel"], boot["agent"], boot["machine"]) == (kernel, None, "q35")
    assert (boot["initrd"] or boot["disk"]["file"]) == image
    assert (out / "cmdline").read_text() == boot["cmdline"] + "\n"
    assert boot["cmdline"].startswith(CMDLINE)


def test_every_root_format_is_tested() -> None:
    assert {each.partition("+")[2] for each in BOOTABLE} == set(ROOT_FORMATS)


@pytest.mark.parametrize(
    ("recipe", "whole"),
    [
        ("a=1 rw", "a=1 rw root=/dev/x ro"),
        ("", "root=/dev/x ro"),
        ("a=1 -- --debug", "a=1 root=/dev/x ro -- --debug"),
        ("-- x", "root=/dev/x ro -- x"),
        ("a --b", "a --b root=/dev/x ro"),
    ],
)
def test_the_formats_parameters_come_last_but_before_inits(recipe: str, whole: str) -> None:
    assert join_cmdline(recipe, "root=/dev/x ro") == whole


def test_sizes_by_component_and_file(images: Images) -> None:
    out = images.make("vmlinux+erofs", maxSize=10_000_000).out
    sizes = json.loads((out / "sizes.json").read_text())
    assert (sizes["components"], sizes["total"]) == ({"busybox": 1000, "init": 200}, 1200)
    assert sizes["files"]["root.img"] == (out / "root.img").stat().st_size
    assert (sizes["image"], sizes["max-size"]) == ("root.img", 10_000_000)


# --- what is refused --------------------------------------------------------------------------------------------


def test_an_image_that_is_too_large_says_by_how_much_and_why(images: Images, tmp_path: Path) -> None:
    sizes = {f"part-{number}": number * 1000 for number in range(20)}
    rootfs = write_rootfs(tmp_path / "large", ODD, sizes)
    right = (images.of("vmlinux+initrd").out / "initrd.img").stat().st_size
    assert images.make("vmlinux+initrd", rootfs=rootfs, maxSize=right).exit_status == 0
    report = images.make("vmlinux+initrd", rootfs=rootfs, maxSize=right - 1).report
    assert report["code"] == "image-too-large"
    assert f"{right:,} bytes, 1 more than `max-size`" in report["message"]
    assert "19,000  part-19" in report["details"][1]
    assert len(report["details"]) == 11


@pytest.mark.parametrize(("format", "lacks"), [("vmlinux+initrd", "vmlinux"), ("kernel+squashfs", "bzImage")])
def test_a_kernel_of_the_other_kind_only(images: Images, tmp_path: Path, format: str, lacks: str) -> None:
    shutil.copytree(images.kernel, tmp_path / "half")
    (tmp_path / "half" / lacks).unlink()
    report = images.make(format, kernel=tmp_path / "half").report
    assert report["code"] == "kernel-missing"
    assert lacks in report["message"]


def test_a_microvm_has_no_nvdimm(images: Images) -> None:
    assert images.make("vmlinux+pmem", machine="microvm").report["code"] == "recipe-invalid"


# --- the initrd -------------------------------------------------------------------------------------------------


def entries(archive: bytes) -> Iterator[tuple[bytes, list[int], bytes]]:
    """Name, numbers and body of every entry of a newc archive (Linux, early-userspace/buffer-format)."""
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = archive[at + 110 : at + 110 + numbers[11] - 1]
        body = at + 110 + numbers[11] + 3 & ~3
        if name == b"TRAILER!!!":
            assert not archive[body:].strip(b"\0")
            return
        yield name, numbers, archive[body : body + numbers[6]]
        at = body + numbers[6] + 3 & ~3


def initrd(built: Built) -> dict[bytes, tuple[list[int], bytes]]:
    with (built.out / "initrd.img").open("rb") as file:
        plain = zstandard.ZstdDecompressor().stream_reader(file).read()
    return {name: (numbers, body) for name, numbers, body in entries(plain)}


def test_an_initrd_has_what_the_root_says(images: Images) -> None:
    found = initrd(images.of("vmlinux+initrd"))
    assert list(found) == [
        each.name.encode(errors="surrogateescape") for each in sorted(ODD, key=lambda e: e.name)
    ]
    for entry in ODD:
        numbers, body = found[entry.name.encode(errors="surrogateescape")]
        assert numbers[1] == KINDS[body_of(entry).kind] | entry.mode
        assert (numbers[2], numbers[3], numbers[5]) == (entry.uid, entry.gid, 1)
        assert (numbers[9], numbers[10]) == entry.device
        if body_of(entry).kind == tarfile.SYMTYPE:
            assert body == body_of(entry).link.encode()
        elif entry.kind == tarfile.REGTYPE and entry.name != "odd/su":
            assert body == entry.content


def test_links_to_one_file_share_its_number_and_the_last_has_the_body(images: Images) -> None:
    found = initrd(images.of("vmlinux+initrd"))
    links = [found[name] for name in (b"odd/su", b"odd/su-again", b"odd/tmp/su-elsewhere")]
    assert len({numbers[0] for numbers, _ in links}) == 1
    assert [numbers[4] for numbers, _ in links] == [3, 3, 3]
    assert [body for _, body in links] == [b"", b"", b"#!/bin/sh\nid\n"]
    assert len({numbers[0] for numbers, _ in found.values()}) == len(found) - 3


def test_a_number_that_newc_cannot_hold(tmp_path: Path) -> None:
    entry = Entry("x", uid=1 << 32).info()
    with pytest.raises(image_cpio.TooLargeError):
        image_cpio.header(b"x", 0o100644, inode=1, links=1, size=0, entry=entry)


def test_an_initrd_with_such_a_number_is_refused(images: Images, tmp_path: Path) -> None:
    rootfs = write_rootfs(tmp_path / "huge", [Entry("x", uid=1 << 32)])
    assert images.make("vmlinux+initrd", rootfs=rootfs).report["code"] == "recipe-invalid"


# --- disks ------------------------------------------------------------------------------------------------------


def test_a_pmem_image_is_what_nvdimm_and_clear_containers_want(images: Images, tmp_path: Path) -> None:
    image = images.of("vmlinux+pmem").out / "root.img"
    data = image.read_bytes()
    assert len(data) % (2 << 20) == 0
    info = bytearray(data[4096:8192])
    assert info[:16] == b"NVDIMM_PFN_INFO\0"
    wanted = int.from_bytes(info[4088:], "little")
    info[4088:] = bytes(8)
    assert fletcher64(bytes(info)) == wanted
    disk, partition = tmp_path / "disk", tmp_path / "partition"
    disk.write_bytes(data[2 << 20 :])
    table = json.loads(images.look(disk, "sfdisk --json /in/image"))["partitiontable"]
    [entry] = table["partitions"]
    assert (table["label"], entry["start"] * 512, entry["name"]) == ("gpt", 1 << 20, "root")
    assert entry["size"] * 512 == len(data) - (4 << 20)
    partition.write_bytes(data[3 << 20 :])
    listing = images.look(partition, "dumpe2fs -h /in/image; debugfs -R 'stat /odd/su' /in/image")
    assert "has_journal" in listing
    assert "2026" not in listing
    assert "Mode:  04755" in listing


def test_a_disk_that_needs_several_block_groups(images: Images, tmp_path: Path) -> None:
    large = [Entry(f"large/{number}", content=bytes([number]) * (10 << 20)) for number in range(14)]
    small = [Entry(f"small/{number}", content=b"x") for number in range(500)]
    rootfs = write_rootfs(tmp_path / "several", [folder("large"), folder("small"), *large, *small])
    one = digests(images.make("vmlinux+pmem", rootfs=rootfs))
    assert digests(images.make("vmlinux+pmem", rootfs=rootfs)) == one


def test_squashfs_keeps_owners_devices_and_names(images: Images) -> None:
    image = images.of("kernel+squashfs").out / "root.img"
    lines = images.look(image, "unsquashfs -lln /in/image").splitlines()
    assert any(line.startswith("-rwsr-xr-x 0/0") and line.endswith("odd/su-again") for line in lines)
    assert any(line.startswith("brw-rw---- 0/6") and "8, 17" in line for line in lines)
    assert any("300000/4000000000" in line for line in lines)
    [secret] = [line for line in lines if line.endswith("odd/secret")]
    assert secret.startswith("-rw------- 0/0")
    assert sum(line.endswith(" -> secret") for line in lines) == 2


def test_verity_says_what_kata_wants_to_know(images: Images) -> None:
    built = images.of("vmlinux+erofs+verity")
    verity = json.loads((built.out / "boot.json").read_text())["verity"]
    kata = dict(item.split("=") for item in verity["kata"].split(","))
    assert list(kata) == ["root_hash", "salt", "data_blocks", "data_block_size", "hash_block_size"]
    assert (kata["root_hash"], kata["salt"]) == (verity["root-hash"], verity["salt"])
    image = (built.out / "root.img").read_bytes()
    blocks, tree = verity["data-blocks"], verity["hash-offset"]
    data = image[verity["data-offset"] :][: blocks * 4096]
    assert blocks < 128  # so the tree has one block, whose hash is the root hash
    salt = bytes.fromhex(verity["salt"])
    hashes = b"".join(
        hashlib.sha256(salt + data[at : at + 4096]).digest() for at in range(0, len(data), 4096)
    )
    assert image[tree : tree + len(hashes)] == hashes
    assert hashlib.sha256(salt + hashes.ljust(4096, b"\0")).hexdigest() == verity["root-hash"]


# --- tar --------------------------------------------------------------------------------------------------------


def test_tar_has_the_root_and_the_kernel_in_order(images: Images) -> None:
    built = images.of("tar")
    assert sorted(digests(built)) == ["rootfs.tar", "sizes.json"]
    data = io.BytesIO((built.out / "rootfs.tar").read_bytes())
    with tarfile.open(fileobj=data, errors="surrogateescape") as tar:
        found = {entry.name: entry for entry in tar}
        kernel, cmdline = tar.extractfile("boot/kernel"), tar.extractfile("boot/cmdline")
        assert kernel is not None
        assert cmdline is not None
        assert (kernel.read(), cmdline.read()) == (bzimage(elf()), f"{CMDLINE}\n".encode())
    assert list(found) == sorted(found)
    for entry in ODD:
        same = found[entry.name]
        assert (same.mode, same.uid, same.gid, same.type) == (entry.mode, entry.uid, entry.gid, entry.kind)
        assert (same.linkname, (same.devmajor, same.devminor)) == (entry.link, entry.device)
