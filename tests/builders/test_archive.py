"""What our own reader lets through, and what it refuses."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from typing import Literal

import pytest

from ccstore.builders.archive import (
    DIRECTORY,
    FILE,
    HARDLINK,
    SYMLINK,
    ArchiveRefused,
    Member,
    TreeCheck,
    members,
    normalise,
)
from tests.builders.tars import Memory, Written, entry, file, folder, hardlink, symlink, tar, with_checksum

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def listed(data: bytes, check: TreeCheck | None = None) -> list[Member]:
    check = check or TreeCheck()
    found = []
    for member in members(Memory(data)):
        check.add(member)
        found.append(member)
    return found


def refusal(data: bytes, check: TreeCheck | None = None) -> ArchiveRefused:
    with pytest.raises(ArchiveRefused) as caught:
        listed(data, check)
    return caught.value


@pytest.mark.parametrize("format", FORMATS)
def test_honest_archive_is_listed(format: int) -> None:
    entries = [
        folder("./"),
        folder("top/"),
        file("top/a", b"12345" * 300),
        entry("./top//run", b"", mode=0o755),
        symlink("top/up/link", "../../top/a"),
        symlink("top/self", "."),
        hardlink("top/b", "./top/a"),
        file("top/" + "deep/" * 12 + "n" * 90),
    ]
    assert [(each.path, each.kind, each.size, each.target) for each in listed(tar(entries, format))] == [
        (b"", DIRECTORY, 0, b""),
        (b"top", DIRECTORY, 0, b""),
        (b"top/a", FILE, 1500, b""),
        (b"top/run", FILE, 0, b""),
        (b"top/up/link", SYMLINK, 0, b"../../top/a"),
        (b"top/self", SYMLINK, 0, b"."),
        (b"top/b", HARDLINK, 0, b"top/a"),
        (b"top/" + b"deep/" * 12 + b"n" * 90, FILE, 1, b""),
    ]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_targets_are_read(format: int) -> None:
    name, target = "d/" + "n" * 240, "t" * 230
    [one, two] = listed(tar([file(name), symlink("l", target)], format))
    assert one.path == name.encode()
    assert two.target == target.encode()


HOSTILE: dict[str, list[Written]] = {
    "dot-dot": [file("../x")],
    "dot-dot-inside": [file("a/../../x")],
    "dot-dot-that-stays-inside": [file("a/../x")],
    "absolute": [file("/etc/x")],
    "link-above-the-top": [symlink("a/l", "../../x")],
    "link-to-above": [symlink("l", "..")],
    "absolute-link": [symlink("l", "/etc/passwd")],
    "link-down-and-up": [symlink("s", "."), symlink("l", "s/../x")],
    "write-through-link": [symlink("l", "d"), file("l/x")],
    "folder-below-link": [symlink("l", "d"), folder("l/x/y")],
    "link-replaces-folder": [folder("d"), symlink("d", "e")],
    "link-replaces-implied-folder": [file("d/x"), symlink("d", "e")],
    "folder-replaces-link": [symlink("d", "e"), folder("d")],
    "file-replaces-link": [symlink("d", "e"), file("d")],
    "file-below-file": [file("d"), file("d/x")],
    "hard-link-out": [hardlink("h", "../../etc/passwd")],
    "hard-link-absolute": [hardlink("h", "/etc/passwd")],
    "hard-link-to-nothing": [hardlink("h", "gone")],
    "hard-link-to-itself": [hardlink("h", "h")],
    "hard-link-to-later": [hardlink("h", "later"), file("later")],
    "hard-link-to-symlink": [symlink("l", "x"), hardlink("h", "l")],
    "hard-link-to-folder": [folder("d"), hardlink("h", "d")],
    "file-as-top": [file(".")],
    "symlink-as-top": [symlink(".", "d")],
    "file-with-a-folder's-name": [file("a/.")],
    "link-with-a-folder's-name": [symlink("a/", "b")],
    "character-device": [entry("null", type=tarfile.CHRTYPE)],
    "block-device": [entry("sda", type=tarfile.BLKTYPE)],
    "fifo": [entry("pipe", type=tarfile.FIFOTYPE)],
    "sparse": [entry("s", type=tarfile.GNUTYPE_SPARSE)],
    "contiguous": [entry("c", b"x", type=tarfile.CONTTYPE)],
    "unknown-type": [entry("z", b"x", type=b"Z")],
    "folder-with-body": [entry("d", b"x" * 512, type=tarfile.DIRTYPE)],
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive_is_refused(name: str, format: Literal[0, 1, 2]) -> None:
    refused = refusal(_raw(HOSTILE[name], format))
    assert refused.entry
    assert refused.reason


def _raw(entries: Iterable[Written], format: Literal[0, 1, 2]) -> bytes:
    """As `tar`, but bodies are written whatever the type says."""
    blocks = b""
    for info, content in entries:
        blocks += info.tobuf(format) + content + bytes(-len(content) % 512)
    return blocks + bytes(1024)


def test_refusal_names_entry_and_reason() -> None:
    refused = refusal(tar([file("fine"), symlink("a/evil", "/etc/passwd")]))
    assert refused.entry == "a/evil"
    assert "/etc/passwd" in refused.reason


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in str(refusal(tar([file("/\x1b[2J")])))


def test_absolute_links_are_for_root_trees() -> None:
    data = tar([symlink("usr/bin/awk", "/etc/alternatives/awk")])
    assert listed(data, TreeCheck(absolute_links=True))[0].target == b"/etc/alternatives/awk"
    refusal(data)
    refusal(tar([symlink("usr/l", "../../../etc")]), TreeCheck(absolute_links=True))


def test_a_name_that_no_file_can_have() -> None:
    assert listed(tar([file("d/" + "n" * 255)]))
    refusal(tar([file("d/" + "n" * 256)]))


def test_same_entry_twice_is_let_through() -> None:
    assert len(listed(tar([folder("d"), file("d/x"), folder("d"), file("d/x", b"new")]))) == 4


def test_too_many_entries() -> None:
    data = tar([file(f"f{number}") for number in range(11)])
    assert refusal(data, TreeCheck(max_entries=10)).entry == "f10"
    assert len(listed(data, TreeCheck(max_entries=11))) == 11


def test_too_large() -> None:
    data = tar([file("a", bytes(600)), file("b", bytes(600))])
    assert refusal(data, TreeCheck(max_bytes=1199)).entry == "b"
    assert len(listed(data, TreeCheck(max_bytes=1200))) == 2


def test_size_that_no_disk_holds_is_refused_by_its_header() -> None:
    info, _ = file("bomb")
    info.size = 1 << 62
    assert refusal(info.tobuf(tarfile.GNU_FORMAT)).entry == "bomb"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:700],  # in the body
        lambda data: data[:300],  # in the header
        lambda data: b"y" + data[1:],  # the checksum
        lambda data: data + b"PK\3\4",  # something behind the end
        lambda data: data + bytes(2 << 20),  # a bomb of zeros
        lambda data: with_checksum(data[:124] + b"-0000000001\0" + data[136:512]) + data[512:],
        lambda data: with_checksum(data[:124] + b"\xff" * 12 + data[136:512]) + data[512:],
        lambda data: with_checksum(data[:257] + b"weird!!!" + data[265:512]) + data[512:],
        lambda data: with_checksum(bytes(100) + data[100:512]) + data[512:],  # no name
    ],
)
def test_damaged_archive_is_refused(damage: object) -> None:
    data = tar([file("a", b"x" * 600)])
    assert callable(damage)
    refusal(damage(data))


def _extension(type: bytes, body: bytes) -> bytes:
    [(info, content)] = [entry("extension", body, type=type)]
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


def _pax(key: str, value: str) -> bytes:
    rest = f" {key}={value}\n"
    length = len(rest) + len(str(len(rest) + 2))
    return f"{length}{rest}".encode()


@pytest.mark.parametrize(
    "extension",
    [
        _extension(b"g", _pax("path", "../x")),
        _extension(b"x", _pax("path", "../x")),
        _extension(b"x", _pax("path", "/x")),
        _extension(b"x", _pax("path", "a\0b")),
        _extension(b"x", _pax("path", "")),
        _extension(b"x", _pax("size", "-1")),
        _extension(b"x", _pax("GNU.sparse.major", "1")),
        _extension(b"x", _pax("hdrcharset", "BINARY")),
        _extension(b"x", b"12 no-equals\n"),
        _extension(b"x", b"999 a=b\n"),
        _extension(b"x", b"999 path=b\n"),
        _extension(b"x", _pax("path", "a")) * 2,
        # GNU tar forgets the first header, so what it takes for entries would never have been judged
        _extension(b"x", _pax("size", "512")) + _extension(b"x", _pax("mtime", "1")),
        _extension(b"x", _pax("path", "b")) + _extension(b"g", _pax("comment", "c")) + _extension(b"x", b""),
        _extension(b"L", b"../x\0"),
        _extension(b"L", b"a\0") + _extension(b"x", _pax("path", "b")),
        _extension(b"L", b"n" * 5000),
        _extension(b"L", b"name")[:-508] + b"-and-more".ljust(508, b"\0"),  # to some a name ends at its NUL
        _extension(b"L", b""),
    ],
)
def test_hostile_extension_is_refused(extension: bytes) -> None:
    refusal(extension + tar([file("a")]))


def test_extension_for_no_entry_is_refused() -> None:
    refusal(_extension(b"L", b"name\0") + bytes(1024))


def test_global_comment_is_let_through() -> None:
    data = _extension(b"g", _pax("comment", "0" * 40)) + tar([file("a")])
    assert [each.path for each in listed(data)] == [b"a"]


def test_each_entry_may_have_a_pax_header() -> None:
    one = _extension(b"x", _pax("path", "b")) + tar([file("a")])[:1024]
    assert [each.path for each in listed(one + one + bytes(1024))] == [b"b", b"b"]


def test_no_link_leads_into_the_folders_that_are_stripped() -> None:
    inside = [symlink("top/l", "a"), symlink("top/d/l", "../a"), symlink("top/d/e/l", "../..")]
    assert len(listed(tar(inside), TreeCheck(strip=1))) == 3
    for link in (symlink("top/l", ".."), symlink("top/l", "../top/a"), symlink("top/d/l", "../../a")):
        assert listed(tar([link]))
        assert "out of the tree" in refusal(tar([link]), TreeCheck(strip=1)).reason


def test_empty_name() -> None:
    with pytest.raises(ArchiveRefused):
        normalise(b"")
