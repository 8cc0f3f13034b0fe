"""Source tarballs that are hostile or broken are refused before any tool unpacks them."""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable

import pytest

from tests.cli.conftest import Project, code, place

Maker = Callable[[tarfile.TarFile], None]


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", data: bytes = b"") -> Maker:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size, info.mode = kind, target, len(data), 0o644
        archive.addfile(info, io.BytesIO(data))

    return add


def top(archive: tarfile.TarFile) -> None:
    entry("linux-1/Makefile", data=b"VERSION = 1\n")(archive)


def tarball(*makers: Maker) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for make in (top, *makers):
            make(archive)
    return sink.getvalue()


def kernel(project: Project, data: bytes) -> None:
    file = project.root / "linux.tar"
    file.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    project.recipe(
        "kernel",
        f"kind: kernel\nversion: 1.0.0\ntoolchain: toolchain\nsource:\n  url: file://{file}\n"
        f"  sha256: {digest}\nconfig: {{base: tinyconfig}}\ntimeout: 5m\n",
    )


def refused(project: Project, data: bytes) -> str:
    kernel(project, data)
    found = project.fails("realize", "kernel.tree", timeout=300)
    assert (found.returncode, code(found.stderr)) == (3, "archive-refused")
    assert place(found.stderr).startswith("recipes/kernel.yml:")
    return found.stderr


@pytest.mark.parametrize(
    ("maker", "told"),
    [
        (entry("linux-1/../../evil", data=b"x"), "'..' in its name"),
        (entry("/evil", data=b"x"), "absolute name"),
        (entry("linux-1/out", tarfile.SYMTYPE, "/etc/passwd"), "link out of the tree"),
        (entry("linux-1/out", tarfile.SYMTYPE, "../../../etc"), "link out of the tree"),
        (entry("linux-1/out", tarfile.LNKTYPE, "../../etc/passwd"), "hard link out of the tree"),
        (entry("linux-1/device", tarfile.CHRTYPE), "character device"),
        (entry("linux-1/device", tarfile.BLKTYPE), "block device"),
        (entry("linux-1/pipe", tarfile.FIFOTYPE), "FIFO"),
    ],
    ids=["dots", "absolute", "absolute link", "link out", "hard link out", "character", "block", "FIFO"],
)
def test_a_hostile_entry(small: Project, maker: Maker, told: str) -> None:
    assert told in refused(small, tarball(maker))


def test_an_entry_through_a_link(small: Project) -> None:
    link = entry("linux-1/dir", tarfile.SYMTYPE, "other")
    assert "through the symbolic link" in refused(small, tarball(link, entry("linux-1/dir/file", data=b"x")))


def test_a_million_entries(small: Project) -> None:
    folder = tarfile.TarInfo("linux-1")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
    head = folder.tobuf(tarfile.USTAR_FORMAT)
    compressor = lzma.LZMACompressor(preset=0)
    thousand = head * 1000
    data = b"".join([*(compressor.compress(thousand) for _ in range(1001)), compressor.flush()])
    assert len(data) < 1_000_000
    assert "one too many: 1000000 entries are allowed" in refused(small, data)


@pytest.mark.parametrize(
    "data",
    [b"", b"no archive at all\n" * 100, tarball()[:700], lzma.compress(tarball())[:-20]],
    ids=["empty", "text", "cut short", "compressed and cut short"],
)
def test_what_is_no_archive(small: Project, data: bytes) -> None:
    refused(small, data)


def test_two_folders_at_the_top(small: Project) -> None:
    assert "2 entries at its top" in refused(small, tarball(entry("second/file", data=b"x")))


def test_a_good_one_is_unpacked(small: Project) -> None:
    kernel(small, lzma.compress(tarball(entry("linux-1/link", tarfile.SYMTYPE, "Makefile"))))
    [tree] = small.shell.realize("kernel.tree")
    assert (tree / "link").read_bytes() == b"VERSION = 1\n"
