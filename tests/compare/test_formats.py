"""Files of a known form: archives, compressed files, file systems, made by the format's own tool or library."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccstore.compare.causes import ORDER, RANDOM, TIME
from ccstore.compare.findings import Circumstances, Context
from ccstore.compare.layers import OTHERWISE
from ccstore.compare.members import archive
from ccstore.compare.trees import explain

from .sides import AGAIN, BUILT, finding, findings

Member = tuple[str, bytes]
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def tar(*members: Member, **facts: object) -> bytes:
    """A tar archive in which every member has `facts`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as whole:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            for key, value in facts.items():
                setattr(entry, key, value)
            whole.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def cpio(tmp_path: Path, tool: Callable[[str], str], *members: Member) -> bytes:
    """An archive in the format newc, made by busybox."""
    folder = tmp_path / f"cpio-{os.urandom(4).hex()}"
    folder.mkdir()
    for name, data in members:
        (folder / name).write_bytes(data)
        os.utime(folder / name, (BUILT, BUILT))
    names = "".join(f"{name}\n" for name, _ in members)
    command = [tool("busybox"), "cpio", "-o", "-H", "newc"]
    return subprocess.run(command, cwd=folder, input=names.encode(), capture_output=True, check=True).stdout


def ar(*members: Member, mtime: int = 0) -> bytes:
    """A common archive: each header has 60 characters (ar(5))."""
    parts = [b"!<arch>\n"]
    for name, data in members:
        head = f"{name + '/':<16}{mtime:<12}{0:<6}{0:<6}{0o100644:<8o}{len(data):<10}`\n"
        parts.append(head.encode() + data + b"\n" * (len(data) & 1))
    return b"".join(parts)


def zipped(*members: Member, year: int = 2026) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as whole:
        for name, data in members:
            whole.writestr(zipfile.ZipInfo(name, (year, 1, 2, 3, 4, 6)), data)
    return buffer.getvalue()


HELLO, OTHER = ("a", b"hello from ccstore\n"), ("a", b"hello from rebuild-1\n")
REST = ("b", b"the same\n")


def test_a_member_of_a_tar(tmp_path: Path) -> None:
    found = finding(tmp_path, tar(HELLO, REST), tar(OTHER, REST))
    assert found.where == ("tar", "member a", "line 1")
    assert (found.first, found.second) == ("hello from ccstore", "hello from rebuild-1")
    assert found.causes == ("host name",)


@pytest.mark.parametrize(
    ("fact", "first", "second", "where", "cause"),
    [
        ("mtime", BUILT, AGAIN, "time", TIME),
        ("uid", 1000, 4242, "owner", "user and group"),
        ("gid", 1000, 4242, "group", "user and group"),
        ("uname", "builder", "rebuilder", "owner's name", "user and group"),
        ("mode", 0o644, 0o640, "type and mode", "umask"),
    ],
)
def test_the_facts_of_a_member(
    tmp_path: Path, fact: str, first: object, second: object, where: str, cause: str
) -> None:
    found = finding(tmp_path, tar(HELLO, **{fact: first}), tar(HELLO, **{fact: second}))
    assert (found.where, found.causes) == (("tar", "member a", where), (cause,))


@pytest.mark.parametrize("kind", ["tar", "cpio", "ar", "zip"])
def test_members_in_another_order(tmp_path: Path, tool: Callable[[str], str], kind: str) -> None:
    makers: dict[str, Callable[..., bytes]] = {
        "tar": tar,
        "cpio": lambda *members: cpio(tmp_path, tool, *members),
        "ar": ar,
        "zip": zipped,
    }
    members = [HELLO, REST, ("c", b"third")]
    found = findings(tmp_path, makers[kind](*members), makers[kind](*reversed(members)))
    assert (found[0].where, found[0].causes) == ((kind, "order of members"), (ORDER,))
    assert (found[0].first[0], found[0].second[0]) == ("a", "c")


@pytest.mark.parametrize("kind", ["cpio", "ar", "zip"])
def test_a_member_of_another_archive(tmp_path: Path, tool: Callable[[str], str], kind: str) -> None:
    makers: dict[str, Callable[..., bytes]] = {
        "cpio": lambda *members: cpio(tmp_path, tool, *members),
        "ar": ar,
        "zip": zipped,
    }
    found = findings(tmp_path, makers[kind](HELLO, REST), makers[kind](OTHER, REST))
    name = "a/" if kind == "ar" else "a"
    assert [each.causes for each in found if each.where == (kind, f"member {name}", "line 1")] == [
        ("host name",)
    ]


def test_times_in_other_archives(tmp_path: Path) -> None:
    found = finding(tmp_path, ar(HELLO, mtime=BUILT), ar(HELLO, mtime=AGAIN))
    assert (found.where, found.causes) == (("ar", "member a/", "time"), (TIME,))
    found = finding(tmp_path, zipped(HELLO), zipped(HELLO, year=2027))
    assert (found.where, found.causes) == (("zip", "member a", "time"), (TIME,))


def test_members_that_only_one_has(tmp_path: Path) -> None:
    found = finding(tmp_path, tar(HELLO, REST), tar(HELLO, ("new", b"")))
    assert (found.where, found.first, found.second) == (("tar", "names of members"), "b", "new")


@pytest.mark.parametrize("name", PACK)
def test_a_compressed_file(tmp_path: Path, name: str) -> None:
    pack = PACK[name]
    found = finding(tmp_path, pack(HELLO[1] * 100), pack(HELLO[1] * 99 + OTHER[1]))
    assert (found.where, found.causes) == ((f"{name} data", "line 100"), ("host name",))


def test_layers_in_layers(tmp_path: Path) -> None:
    def packed(member: Member) -> bytes:
        return PACK["xz"](tar(("inner.tar.gz", PACK["gzip"](tar(member))), REST))

    found = finding(tmp_path, packed(HELLO), packed(OTHER))
    way = ("xz data", "tar", "member inner.tar.gz", "gzip data", "tar", "member a", "line 1")
    assert (found.where, found.causes) == (way, ("host name",))


def test_the_same_content_compressed_otherwise(tmp_path: Path) -> None:
    data = os.urandom(2000) + bytes(20000)
    for one, other in (
        (lzma.compress(data, preset=0), lzma.compress(data, preset=9)),
        (zstandard.compress(data, 1), zstandard.compress(data, 19)),
        (gzip.compress(data, 1, mtime=0), gzip.compress(data, 9, mtime=0)),
    ):
        assert [each.causes for each in findings(tmp_path, one, other)] == [(OTHERWISE,)]


def test_the_header_of_gzip(tmp_path: Path) -> None:
    found = finding(tmp_path, gzip.compress(b"x", mtime=BUILT), gzip.compress(b"x", mtime=AGAIN))
    assert (found.where, found.causes) == (("gzip header", "time"), (TIME,))

    def named(name: str) -> bytes:
        buffer = io.BytesIO()
        with gzip.GzipFile(name, "wb", fileobj=buffer, mtime=0) as file:
            file.write(b"x")
        return buffer.getvalue()

    found = finding(tmp_path, named("one"), named("other"))
    assert (found.where, found.first, found.second) == (("gzip header", "file name"), "one", "other")


def test_an_early_cpio_before_a_compressed_one(tmp_path: Path, tool: Callable[[str], str]) -> None:
    early = cpio(tmp_path, tool, REST)
    one, other = (early + PACK["zstd"](cpio(tmp_path, tool, each)) for each in (HELLO, OTHER))
    found = findings(tmp_path, one, other)
    ways = [each.where for each in found]
    assert ("cpio", "member (what follows)", "zstd data", "cpio", "member a", "line 1") in ways


def test_fields_of_a_superblock(tmp_path: Path, tool: Callable[[str], str]) -> None:
    images = []
    for number in range(2):
        image = tmp_path / f"image{number}"
        with image.open("wb") as file:
            file.truncate(1 << 20)
        environment = {**os.environ, "E2FSPROGS_FAKE_TIME": str((BUILT, AGAIN)[number])}
        subprocess.run(
            [tool("mke2fs"), "-q", "-t", "ext4", image], env=environment, check=True, capture_output=True
        )
        images.append(image.read_bytes())
    found = {each.where: each.causes for each in findings(tmp_path, images[0], images[1])}
    assert found["ext4 superblock", "write time"] == (TIME,)
    assert found["ext4 superblock", "creation time"] == (TIME,)
    assert found["ext4 superblock", "UUID"] == (RANDOM,)


def bzimage(payload: bytes) -> bytes:
    """The least that the boot protocol wants: one sector of setup, a header, a payload with its size behind it."""
    packed = lzma.compress(payload, check=lzma.CHECK_CRC32) + struct.pack("<I", len(payload))
    image = bytearray(2 * 512)
    image[0x1F1] = 1
    image[0x202:0x208] = b"HdrS" + struct.pack("<H", 0x20F)
    image[0x248:0x250] = struct.pack("<II", 0, len(packed))
    return bytes(image) + packed


def test_the_kernel_in_a_bzimage(tmp_path: Path) -> None:
    found = finding(tmp_path, bzimage(HELLO[1] * 50), bzimage(HELLO[1] * 49 + OTHER[1]))
    assert (found.where, found.causes) == (("kernel in the bzImage", "line 50"), ("host name",))


def test_text_in_another_order(tmp_path: Path) -> None:
    lines = [f"file {name}\n".encode() for name in "abcdefgh"]
    found = finding(tmp_path, b"".join(lines), b"".join([lines[0], *reversed(lines[1:])]))
    assert (found.where, found.causes) == (("lines 2 to 8",), (ORDER,))


def test_a_line_that_is_missing(tmp_path: Path) -> None:
    found = finding(tmp_path, b"a\nb\nc\n", b"a\nc\n")
    assert (found.where, found.first, found.second) == (("line 2",), "b", "(nothing)")


def test_of_a_long_line_what_differs_is_shown(tmp_path: Path) -> None:
    found = finding(
        tmp_path, b"x" * 5000 + b"ccstore" + b"y" * 5000, b"x" * 5000 + b"rebuild-1" + b"y" * 5000
    )
    assert found.causes == ("host name",)
    assert len(found.first) < 400
    assert "ccstore" in found.first
    assert "rebuild-1" in found.second


@pytest.mark.parametrize("make", [tar, ar, zipped], ids=["tar", "ar", "zip"])
def test_an_archive_that_is_cut_short_is_compared_all_the_same(
    tmp_path: Path, make: Callable[..., bytes]
) -> None:
    one, other = make(HELLO, REST), make(OTHER, REST)
    assert findings(tmp_path, one[: len(one) // 2], other[: len(other) // 2])


SEEDS = [
    tar(HELLO),
    ar(HELLO),
    zipped(HELLO),
    *(pack(b"text") for pack in PACK.values()),
    b"070701" + b"0" * 120,
]
SEEDS += [b"\x7fELF\2\1\1" + bytes(60), bzimage(b"x")]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=8),
    st.binary(),
)
def test_damage_never_ends_a_comparison(seed: bytes, changes: list[tuple[int, int]], more: bytes) -> None:
    damaged = bytearray(seed + more)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    first, second = seed, bytes(damaged)
    archive(second)
    if first != second:
        assert list(explain(first, second, Context(Circumstances())))
