"""kernel.tree: any compression, one top folder, and nothing that is damaged or hostile."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.builders.conftest import Built, Step
from tests.builders.tars import folder, symlink, tar

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def tarball(*entries: tuple[str, bytes | None], mode: int = 0o755) -> bytes:
    """A tar archive; an entry without bytes is a folder."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.mode = mode
            info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            info.size = len(data or b"")
            archive.addfile(info, io.BytesIO(data or b""))
    return target.getvalue()


LINUX = tarball(("linux-1.0", None), ("linux-1.0/Makefile", b"VERSION = 1\n"), ("linux-1.0/.mailmap", b"x"))


def unpacked(step: Step, tmp_path: Path, data: bytes) -> Built:
    source = tmp_path / "download"
    source.write_bytes(data)
    return step.run({"source": source})


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_the_top_folder_goes_whatever_the_compression(unpack: Step, tmp_path: Path, compression: str) -> None:
    built = unpacked(unpack, tmp_path, COMPRESSIONS[compression](LINUX))
    assert sorted(each.name for each in built.out.iterdir()) == [".mailmap", "Makefile"]
    assert [each.name for each in built.outputs.iterdir()] == ["out"]


def test_a_top_folder_may_be_read_only(unpack: Step, tmp_path: Path) -> None:
    built = unpacked(unpack, tmp_path, tarball(("linux", None), ("linux/file", b"1"), mode=0o555))
    assert (built.out / "file").read_bytes() == b"1"


@pytest.mark.parametrize(
    "data",
    [
        tarball(("a/file", b""), ("b/file", b"")),
        tarball(("file", b"")),
        tarball(),
        b"this is no archive",
        b"",
        lzma.compress(LINUX)[:-20],
        gzip.compress(LINUX)[:60],
    ],
    ids=["two folders", "a file", "nothing", "text", "empty", "xz cut short", "gzip cut short"],
)
def test_what_is_not_one_whole_folder_is_refused(unpack: Step, tmp_path: Path, data: bytes) -> None:
    built = unpacked(unpack, tmp_path, data)
    assert (built.exit_status, built.report["code"]) == (1, "archive-refused")


def test_a_cut_download_says_what_xz_says(unpack: Step, tmp_path: Path) -> None:
    built = unpacked(unpack, tmp_path, lzma.compress(LINUX)[:-20])
    assert "xz" in " ".join(built.report["details"])


def test_the_filter_explains_what_it_refuses(unpack: Step, tmp_path: Path) -> None:
    built = unpacked(unpack, tmp_path, lzma.compress(tarball(("linux/../../etc/passwd", b""))))
    assert built.report["code"] == "archive-refused"
    assert "linux/../../etc/passwd" in built.report["message"]


def test_a_link_out_of_what_was_the_top_folder(unpack: Step, tmp_path: Path) -> None:
    data = tar([folder("linux/"), symlink("linux/up", "../other")])
    built = unpacked(unpack, tmp_path, data)
    assert built.report["code"] == "archive-refused"
    assert "linux/up" in built.report["message"]


def test_a_folder_is_no_tarball(unpack: Step, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert unpack.run({"source": tmp_path / "folder"}).report["code"] == "archive-refused"
