"""What a kernel takes of a repository or an archive: the part, or what is there instead."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.builders.conftest import Built, MakeStep
from tests.builders.tars import Written, entry, file, folder, symlink, tar

FILES = ("part.py", "unpack.sh", "tarfilter.py", "archive.py")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A repository's tree, as a store object has it."""
    top = tmp_path / "source"
    (top / "kernel/patches").mkdir(parents=True)
    (top / "kernel/config").write_text("CONFIG_A=y\n")
    (top / "kernel/patches/a.patch").write_text("a")
    (top / "kernel/patches/b.patch").symlink_to("a.patch")
    (top / "kernel/run").write_text("#!/bin/sh\n")
    (top / "kernel/run").chmod(0o555)
    (top / "latest").symlink_to("kernel")
    (top / "out").symlink_to("/usr/bin")
    (top / "kernel/patches").chmod(0o555)
    return top


def take(step: MakeStep, source: Path, part: str) -> Built:
    return step("/usr/bin/python3", "/in/.builder/part.py", files=FILES).run(
        {"source": source}, {"PART": part}
    )


def test_folders_files_and_links(step: MakeStep, source: Path) -> None:
    patches = take(step, source, "kernel/patches").out
    assert sorted(each.name for each in patches.iterdir()) == ["a.patch", "b.patch"]
    assert (patches / "b.patch").readlink() == Path("a.patch")
    assert take(step, source, "latest/config").out.read_text() == "CONFIG_A=y\n"
    assert take(step, source, "kernel/run").out.stat().st_mode & 0o100
    assert (take(step, source, ".").out / "kernel/patches/a.patch").read_text() == "a"


@pytest.mark.parametrize(
    ("part", "code", "said"),
    [
        ("kernel/patch", "file-missing", "did you mean kernel/patches?"),
        ("nothing/like/it", "file-missing", "paths begin at the top"),
        ("out/sh", "recipe-invalid", ""),
    ],
)
def test_what_cannot_be_taken(step: MakeStep, source: Path, part: str, code: str, said: str) -> None:
    report = take(step, source, part).report
    assert report["code"] == code
    assert part in report["message"]
    assert said in report.get("hint", "")


def archive(path: Path, *entries: Written) -> Path:
    path.write_bytes(tar(entries))
    return path


def closed(name: str) -> Written:
    return entry(name, type=tarfile.DIRTYPE, mode=0o555)


def test_an_archive(step: MakeStep, tmp_path: Path) -> None:
    entries = (
        closed("debian"),
        closed("debian/patches"),
        file("debian/patches/series", b"x\n"),
    )
    source = archive(tmp_path / "source", *entries)
    built = take(step, source, "patches")
    assert (built.out / "series").read_text() == "x\n"
    assert [each.name for each in built.outputs.iterdir()] == ["out"], "nothing else is left"
    assert (take(step, source, "patches/series").out).read_text() == "x\n"
    assert (take(step, source, ".").out / "patches/series").exists()


def test_an_archive_that_is_none_or_leads_out(step: MakeStep, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("--- a/x\n")
    assert take(step, tmp_path / "text", "patches").report["code"] == "archive-refused"
    hostile = archive(tmp_path / "hostile", folder("top"), symlink("top/l", "../../etc"))
    assert take(step, hostile, "l").report["code"] == "archive-refused"
