"""A tar archive passes the filter unchanged, or up to its first refused entry, and no other reader sees more in it.

The other reader is the standard library's, which stops without a word at numbers that it cannot read.
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from pathlib import Path

from ccstore.builders import archive, tarfilter
from tests.builders.tars import Memory, entry, file, folder, hardlink, symlink, tar
from tests.fuzz.mend import tar_headers
from tests.fuzz.target import Target

LONG = "d/" + "n" * 150
SEEDS = {
    "plain": tar(
        [folder("d"), file("d/a", b"text"), entry("d/run", b"#!", mode=0o755), symlink("d/l", "../d/a")]
    ),
    "links": tar(
        [file("a"), hardlink("b", "a"), symlink("c", "./a"), symlink("e", "x/y")], tarfile.USTAR_FORMAT
    ),
    "long": tar([file(LONG), symlink("l", LONG)]),
    "pax": tar([file(LONG), file("ä"), symlink("l", "t" * 120)], tarfile.PAX_FORMAT),
    "implied": tar([file("a/b/c/d"), folder("a/b/c"), file("./a//e")]),
}


def _in_memory(data: bytes = b"") -> int:
    descriptor = os.memfd_create("archive")
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def run(data: bytes, work: Path) -> bool:
    source, sink = _in_memory(data), _in_memory()
    refused = False
    try:
        tarfilter.pass_archive(source, sink, archive.TreeCheck())
    except archive.ArchiveRefused:
        refused = True
    finally:
        passed = os.pread(sink, len(data) + 1, 0)
        os.close(source)
        os.close(sink)
    assert passed == (data[: len(passed)] if refused else data), "the filter changed what it passed on"
    if not refused:
        other = _listed_by_another(data)
        assert listed(data)[: len(other)] == other, "another reader sees other entries"
    return not refused


def listed(data: bytes) -> list[tuple[bytes, int]]:
    """The entries of an archive: path and size. Raises ArchiveRefused."""
    return [(each.path, each.size) for each in archive.members(Memory(data))]


def _listed_by_another(data: bytes) -> list[tuple[bytes, int]]:
    found = []
    stream = io.BytesIO(tar_headers(data, _without_prefix))
    with (
        contextlib.suppress(tarfile.TarError),
        tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape") as other,
    ):
        found += [(archive.normalise(os.fsencode(each.name) or b"."), each.size) for each in other]
    return found


def _without_prefix(block: bytes) -> bytes:
    """Only ustar has the beginning of a name there; the other reader takes whatever is there for one."""
    return block if block[257:263] == b"ustar\0" else block[:345] + bytes(155) + block[500:]


TARGET = Target(
    run,
    seeds=SEEDS,
    tokens=(b"../", b"/etc/x", b"ustar\00000", b"ustar  \0", b"././@LongLink", b"12 path=../x\n", b"10 size=9\n",
            b"0000755\0", b"00000000000\0", b"\x80\0\0\0\0\0\0\1"),
    max_size=8192,
    mend=tar_headers,
)  # fmt: skip
