"""A root tree out of packages: what it holds, and which packages are refused before anything is written."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import zstandard

from ccstore.codec.nar import nar_hash
from ccstore.debian.unpack import debian_tree
from ccstore.errors import CcError
from ccstore.ports import Cancel
from tests.builders.tars import Written, entry, file, folder, hardlink, symlink, tar
from tests.debian.debs import COMPRESSIONS, ar, deb, unpack, write_debs

PACKAGES: dict[str, list[Written]] = {
    "base": [folder("./"), folder("./etc/"), file("./etc/issue", b"hi"), folder("./var/log/")],
    "shell": [
        folder("./bin/"),
        entry("./bin/bash", b"#!", mode=0o4755),
        symlink("./bin/rbash", "bash"),
        hardlink("./bin/again", "./bin/bash"),
        symlink("./usr/bin/editor", "/etc/alternatives/editor"),
    ],
    "libfoo++1": [
        folder("./usr/lib/"),
        file("./usr/lib/libfoo.so.1", b"\x7fELF"),
        symlink("./lib/libfoo.so", "libfoo.so.1"),
        file("./usr/share/doc/libfoo++1/copyright", b"free"),
    ],
}
LINKS = "usr/bin/sh -> bash\nbin/foo -> ../lib/libfoo.so\n"


def test_tree_is_what_packages_and_recipe_say(tmp_path: Path) -> None:
    out = unpack(tmp_path, PACKAGES, LINKS)
    for name in ("bin", "sbin", "lib", "lib64"):
        assert (out / name).readlink() == Path(f"usr/{name}")
    for name in ("in", "build", "out", "tmp", "dev", "proc", "usr/sbin", "var/log"):
        assert list((out / name).iterdir()) == []
    assert (out / "usr/bin/bash").read_bytes() == b"#!"
    assert (out / "usr/bin/again").read_bytes() == b"#!"
    assert (out / "usr/bin/sh").readlink() == Path("bash")
    assert (out / "usr/bin/foo").readlink() == Path("../lib/libfoo.so")
    assert (out / "usr/bin/editor").readlink() == Path("/etc/alternatives/editor")
    assert (out / "usr/bin/foo").resolve() == out / "usr/lib/libfoo.so.1"
    assert "builder:x:1000:1000:" in (out / "etc/passwd").read_text()


def test_modes_keep_no_more_than_the_executable_bit(tmp_path: Path) -> None:
    out = unpack(tmp_path, PACKAGES)
    assert (out / "usr/bin/bash").stat().st_mode & 0o7100 == 0o100
    assert (out / "etc/issue").stat().st_mode & 0o111 == 0


def test_status_says_what_the_tree_is_made_of(tmp_path: Path) -> None:
    text = (unpack(tmp_path, PACKAGES) / "var/lib/dpkg/status").read_text()
    paragraphs = text.strip().split("\n\n")
    names = [each.splitlines()[0] for each in paragraphs]
    assert names == ["Package: base", "Package: libfoo++1", "Package: shell"]
    assert all("\nVersion: 1.0" in each for each in paragraphs)


def test_same_tree_whatever_the_order_and_the_compression(tmp_path: Path) -> None:
    # changes only together with DEBIAN_TREE_REVISION
    golden = "sha256-LzBDY57OrnCCOMyoVvejKpCK/SQUkx9kFCx2fAUOTXc="
    backwards = dict(reversed(PACKAGES.items()))
    compressed = {
        name: deb(name, entries, compression=suffix)
        for (name, entries), suffix in zip(PACKAGES.items(), (".zst", ".gz", ""), strict=True)
    }
    for number, packages in enumerate[Mapping[str, list[Written] | bytes]]((PACKAGES, backwards, compressed)):
        place = tmp_path / str(number)
        place.mkdir()
        assert _nar_hash(unpack(place, packages, LINKS)) == golden


def _nar_hash(path: Path) -> str:
    return nar_hash(path)[0].sri


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_every_compression(tmp_path: Path, suffix: str) -> None:
    packed = deb("p", [file("./usr/f", b"1" * 100_000)], compression=suffix)
    assert (unpack(tmp_path, {"p": packed}) / "usr/f").read_bytes() == b"1" * 100_000


def test_several_frames_of_zstd(tmp_path: Path) -> None:
    data = tar([file("./usr/f", os.urandom(9000))])
    frames = b"".join(zstandard.compress(data[at : at + 3000]) for at in range(0, len(data), 3000))
    packed = deb("p", [], compression=".zst", packed=frames)
    assert (unpack(tmp_path, {"p": packed}) / "usr/f").stat().st_size == 9000


def test_exclude_leaves_out_what_it_matches(tmp_path: Path) -> None:
    out = unpack(tmp_path, PACKAGES, exclude="usr/share/doc/*\netc/iss?e\n")
    assert not (out / "usr/share").exists()
    assert not (out / "etc/issue").exists()
    assert (out / "usr/lib/libfoo.so.1").exists()


def test_hard_link_survives_the_exclusion_of_its_target(tmp_path: Path) -> None:
    out = unpack(tmp_path, {"p": [file("./usr/a", b"1"), hardlink("./usr/b", "./usr/a")]}, exclude="usr/a")
    assert not (out / "usr/a").exists()
    assert (out / "usr/b").read_bytes() == b"1"


ZSTD = zstandard.compress(tar([file("./f", os.urandom(200_000))]))

HOSTILE: dict[str, list[Written]] = {
    "dot-dot": [file("./../../etc/x")],
    "absolute": [file("/etc/x")],
    "link-above-the-top": [symlink("./usr/l", "../../x")],
    "through-a-link": [symlink("./usr/l", "/etc"), file("./usr/l/x")],
    "through-a-merged-link": [symlink("./bin", "/etc"), file("./bin/x")],
    "hard-link-out": [hardlink("./x", "/etc/shadow")],
    "device": [entry("./dev/sda", type=tarfile.BLKTYPE)],
    "fifo": [entry("./run/pipe", type=tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_package_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    packages = {"aaa": [file("./usr/fine")], "evil": HOSTILE[name], "zzz": [file("./usr/fine2")]}
    error = _error(tmp_path, packages)
    assert error.code == "archive-refused"
    assert "evil" in error.message
    _nothing_left(tmp_path)


def _error(tmp_path: Path, packages: Mapping[str, list[Written] | bytes], links: str = "") -> CcError:
    with pytest.raises(CcError) as caught:
        unpack(tmp_path, packages, links)
    return caught.value


def _nothing_left(tmp_path: Path) -> None:
    assert [each.name for each in tmp_path.iterdir()] == ["debs"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a package at all",
        ar({"debian-binary": b"2.0\n"}),
        deb("p", [file("./f", b"1" * 5000)])[:-300],
        deb("p", [file("./f")]).replace(b"data.tar.xz ", b"data.tar.lz4"),
        deb("p", [file("./f")]).replace(b"data.tar.xz ", b"data.tar.\xff\xfe "),
        deb("p", [file("./f")]) + ar({"data.tar.xz": b""})[8:],
        deb("p", [file("./f")]).replace(b"\xfd7zXZ", b"\xfd7zXY"),
        deb("other", [file("./f")]),
        ar({"debian-binary": b"2.0\n"}).replace(b"4         `", b"-5        `"),
        *(deb("p", [], compression=".zst", packed=ZSTD[:end]) for end in (-1, 5000, 10, 4, 0)),
    ],
)
def test_damaged_package_is_refused(tmp_path: Path, data: bytes) -> None:
    assert _error(tmp_path, {"p": data}).code == "archive-refused"
    _nothing_left(tmp_path)


def test_packages_that_agree_share_a_file(tmp_path: Path) -> None:
    packages = {"a": [file("./usr/f", b"1")], "b": [folder("./usr"), file("./usr/f", b"1")]}
    assert (unpack(tmp_path, packages) / "usr/f").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (file("./usr/f", b"1"), file("./usr/f", b"2")),
        (file("./bin/f", b"1"), file("./usr/bin/f", b"2")),
        (file("./usr/f", b"1"), entry("./usr/f", b"1", mode=0o755)),
        (file("./usr/f", b"1"), folder("./usr/f")),
        (symlink("./usr/f", "a"), symlink("./usr/f", "b")),
        (symlink("./usr/f", "share"), file("./usr/f/x")),
        (file("./usr/f"), file("./usr/f/x")),
    ],
)
def test_packages_that_disagree(tmp_path: Path, one: Written, other: Written) -> None:
    error = _error(tmp_path, {"a": [one], "b": [other]})
    assert error.code == "output-invalid"
    assert "of a " in error.message
    assert "of b" in error.message
    _nothing_left(tmp_path)


@pytest.mark.parametrize(
    "links", ["usr/bin/cc -> gcc", "usr/bin/cc -> cc", "usr/bin/bash -> rbash", "etc/x -> ../no/where"]
)
def test_link_that_cannot_be(tmp_path: Path, links: str) -> None:
    assert _error(tmp_path, PACKAGES, links).code == "recipe-invalid"
    _nothing_left(tmp_path)


def test_recipe_replaces_a_package_link(tmp_path: Path) -> None:
    out = unpack(tmp_path, PACKAGES, "usr/bin/editor -> bash")
    assert (out / "usr/bin/editor").readlink() == Path("bash")


def test_interruption(tmp_path: Path) -> None:
    inputs = write_debs(tmp_path / "debs", {"p": deb("p", [file("./f")])})
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(CcError) as caught:
        debian_tree(inputs, {"links": ""}, tmp_path / "out", cancel)
    assert caught.value.code == "interrupted"
    _nothing_left(tmp_path)
