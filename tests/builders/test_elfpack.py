"""elfpack: what is loaded stays what and where it was; what was padding is gone."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

import pytest

from ccstore.builders.elfpack import EHDR, PAGE, PHDR, SHDR, pack

BIG = 0x200000  # the page that a kernel is linked for
LOAD, NOTE = 1, 4
PROGBITS, STRTAB, NOTES, NOBITS = 1, 3, 7, 8
ALLOC = 2
BASE, PHYSICAL = 0xFFFFFFFF81000000, 0x1000000


@dataclass(frozen=True)
class Piece:
    """A section of the executable that a test makes."""

    kind: int
    address: int
    data: bytes
    size: int = 0  # of a section that has no bytes

    @property
    def length(self) -> int:
        return self.size or len(self.data)


TEXT = Piece(PROGBITS, BASE, b"\x90" * 5000)
NOTES_OF_PVH = Piece(NOTES, BASE + BIG, b"\4\0\0\0\4\0\0\0\x12\0\0\0Xen\0\0\0\0\1")
DATA = Piece(PROGBITS, BASE + 2 * BIG, b"data" * 3000)
BSS = Piece(NOBITS, BASE + 2 * BIG + 12000, b"", 70000)
PERCPU = Piece(PROGBITS, 0, b"percpu!!" * 64)
SEGMENTS = [
    (BASE, PHYSICAL, [TEXT, NOTES_OF_PVH]),
    (BASE + 2 * BIG, PHYSICAL + 2 * BIG, [DATA, BSS]),
    (0, PHYSICAL + 2 * BIG + 90112, [PERCPU]),
]
NAMES = b"\0.text\0"


def linked() -> bytes:
    """An executable as the kernel's linker lays it out: offsets agree with addresses modulo 2 MiB."""
    out, programs, sections = bytearray(PAGE), [], [SHDR.pack(*[0] * 10)]
    for address, physical, pieces in SEGMENTS:
        out += bytes((address - len(out)) % BIG)
        offset = len(out)
        for piece in pieces:
            at = offset + piece.address - address
            out += bytes(max(0, at - len(out))) + piece.data
            sections.append(SHDR.pack(1, piece.kind, ALLOC, piece.address, at, piece.length, 0, 0, 16, 0))
        memory = pieces[-1].address + pieces[-1].length - address
        programs.append(PHDR.pack(LOAD, 7, offset, address, physical, len(out) - offset, memory, BIG))
    size = len(NOTES_OF_PVH.data)
    address = NOTES_OF_PVH.address
    programs.append(PHDR.pack(NOTE, 4, 2 * BIG, address, PHYSICAL + BIG, size, size, 4))
    assert out[2 * BIG :].startswith(NOTES_OF_PVH.data)
    sections.append(SHDR.pack(1, STRTAB, 0, 0, len(out), len(NAMES), 0, 0, 1, 0))
    out += NAMES
    header = (b"\x7fELF\2\1\1" + bytes(9), 2, 62, 1, PHYSICAL, 64, len(out), 0, 64)
    out[: EHDR.size] = EHDR.pack(
        *header, PHDR.size, len(programs), SHDR.size, len(sections), len(sections) - 1
    )
    out[EHDR.size : EHDR.size + PHDR.size * len(programs)] = b"".join(programs)
    return bytes(out) + b"".join(sections)


def headers(image: bytes, table: struct.Struct) -> list[tuple[int, ...]]:
    header = EHDR.unpack_from(image)
    offset, count = (header[5], header[10]) if table is PHDR else (header[6], header[12])
    return [table.unpack_from(image, offset + index * table.size) for index in range(count)]


def memory(image: bytes) -> dict[int, bytes]:
    """Physical memory after a monitor has loaded the file, by 16 bytes, where it is not zero."""
    found = {}
    for kind, _, offset, _, physical, size, *_ in headers(image, PHDR):
        for at in range(0, size, 16):
            line = image[offset + at : offset + min(at + 16, size)]
            if kind == LOAD and any(line):
                found[physical + at] = line.ljust(16, b"\0")
    return found


def test_memory_is_loaded_as_before() -> None:
    before, after = linked(), pack(linked())
    assert memory(after) == memory(before)
    assert EHDR.unpack_from(after)[4] == PHYSICAL


def test_padding_is_gone() -> None:
    held = sum(len(piece.data) for _, _, pieces in SEGMENTS for piece in pieces)
    assert len(linked()) > 3 * BIG
    assert len(pack(linked())) < held + 6 * PAGE


def test_offsets_and_addresses_agree_by_the_page() -> None:
    loads = [each for each in headers(pack(linked()), PHDR) if each[0] == LOAD]
    assert [(each[2] - each[3]) % PAGE for each in loads] == [0] * 4
    ends = [(each[2], each[2] + each[5]) for each in loads]
    assert all(end <= start for (_, end), (start, _) in pairwise(ends))


def test_memory_that_is_not_in_the_file_is_still_asked_for() -> None:
    loads = {each[3]: each for each in headers(pack(linked()), PHDR) if each[0] == LOAD}
    size_in_file, size_in_memory = loads[DATA.address][5:7]
    assert (size_in_file, size_in_memory) == (12000, 12000 + 70000)


def test_notes_and_sections_are_found_again() -> None:
    after = pack(linked())
    [note] = [each for each in headers(after, PHDR) if each[0] == NOTE]
    assert after[note[2] : note[2] + note[5]] == NOTES_OF_PVH.data
    sections = {each[3]: each for each in headers(after, SHDR) if each[2] & ALLOC and each[1] != NOBITS}
    for piece in (TEXT, NOTES_OF_PVH, DATA, PERCPU):
        offset, size = sections[piece.address][4:6]
        assert after[offset : offset + size] == piece.data
    names = headers(after, SHDR)[EHDR.unpack_from(after)[13]]
    assert after[names[4] : names[4] + names[5]] == NAMES


def test_packing_twice_changes_nothing() -> None:
    assert pack(pack(linked())) == pack(linked())


@pytest.mark.parametrize(
    "image",
    [b"", b"MZ" + bytes(100), b"\x7fELF\x01\x01" + bytes(100), b"\x7fELF\x02\x01" + bytes(100)],
    ids=["empty", "a bzImage", "32 bits", "no executable"],
)
def test_another_kind_of_file_is_refused(image: bytes) -> None:
    with pytest.raises(ValueError, match="ELF"):
        pack(image)
