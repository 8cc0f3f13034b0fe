"""elfpack: rewrites a linked kernel without the gaps between its sections (runs inside the sandbox).

    python3 elfpack.py VMLINUX PACKED

A vmlinux is linked for pages of 2 MiB: each of its segments starts in the file where it would start in such a
page, and text, read-only data and data are so far apart in memory that the processor can protect them by large
pages. A quarter of a small kernel's file is that padding, which every monitor reads, copies into the guest and has to
back with memory. Here each run of adjoining sections becomes a segment of its own, at the same virtual and physical
addresses, one behind the other in the file; what lay between them is not loaded (the kernel frees it while it boots).

The format is the System V ABI's ELF, 64-bit and little-endian: header of 64 bytes, program headers of 56, section
headers of 64. An ELF file of another kind is refused, with exit status 1.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

PAGE = 4096  # bytes; a segment's offset and address agree modulo this
GAP = 16 * PAGE  # bytes between two sections that are worth a segment of their own
EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")
SHDR = struct.Struct("<IIQQQQIIQQ")
IDENT = b"\x7fELF\x02\x01"
ET_EXEC, PT_LOAD, SHT_NULL, SHT_NOBITS, SHF_ALLOC = 2, 1, 0, 8, 2


@dataclass(frozen=True)
class Segment:
    """A program header."""

    kind: int
    flags: int
    offset: int
    address: int
    physical: int
    file_size: int
    memory_size: int
    align: int

    def holds(self, address: int) -> bool:
        return self.address <= address < self.address + self.memory_size


@dataclass(frozen=True)
class Section:
    """A section header."""

    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int

    @property
    def end(self) -> int:
        return self.address + self.size

    @property
    def loaded(self) -> bool:
        return bool(self.flags & SHF_ALLOC and self.size)


def pack(image: bytes) -> bytes:
    """The executable `image` without gaps; ValueError if it is no ELF executable that can be rewritten so."""
    if image[:6] != IDENT or len(image) < EHDR.size:
        raise ValueError("not a 64-bit little-endian ELF file")
    header = list(EHDR.unpack_from(image))
    if header[1] != ET_EXEC:
        raise ValueError(f"ELF type {header[1]} is not an executable's")
    old = [Segment(*each) for each in _table(image, PHDR, header[5], header[10])]
    sections = [Section(*each) for each in _table(image, SHDR, header[6], header[12])]
    loads = [run for segment in old if segment.kind == PT_LOAD for run in _runs(segment, sections)]
    others = [each for each in old if each.kind != PT_LOAD]

    out = bytearray(EHDR.size + PHDR.size * (len(loads) + len(others)))
    placed = [_place(out, image, each) for each in loads]
    segments = placed + [replace(each, offset=_moved(each.address, each.offset, placed)) for each in others]
    moved = [_keep(out, image, each, placed) for each in sections]
    _pad(out, 8)
    header[5], header[6], header[10] = EHDR.size, len(out), len(segments)
    out += b"".join(SHDR.pack(*vars(each).values()) for each in moved)
    EHDR.pack_into(out, 0, *header)
    for index, each in enumerate(segments):
        PHDR.pack_into(out, EHDR.size + index * PHDR.size, *vars(each).values())
    return bytes(out)


def _table(image: bytes, entry: struct.Struct, offset: int, count: int) -> Iterator[tuple[int, ...]]:
    for index in range(count):
        yield entry.unpack_from(image, offset + index * entry.size)


def _runs(segment: Segment, sections: list[Section]) -> Iterator[Segment]:
    """The segment's parts that hold sections, in the old file."""
    inside = [each for each in sections if each.loaded and segment.holds(each.address)]
    run: list[Section] = []
    for each in sorted(inside, key=lambda section: section.address):
        if run and each.address - run[-1].end >= GAP:
            yield _part(segment, run)
            run = []
        run.append(each)
    if run:
        yield _part(segment, run)


def _part(segment: Segment, run: list[Section]) -> Segment:
    start = run[0].address
    skipped = start - segment.address
    filled = max((each.end for each in run if each.kind != SHT_NOBITS), default=start)
    return replace(
        segment,
        offset=segment.offset + skipped,
        address=start,
        physical=segment.physical + skipped,
        file_size=filled - start,
        memory_size=max(each.end for each in run) - start,
        align=PAGE,
    )


def _place(out: bytearray, image: bytes, segment: Segment) -> Segment:
    out += bytes((segment.address - len(out)) % PAGE)
    placed = replace(segment, offset=len(out))
    out += image[segment.offset : segment.offset + segment.file_size]
    return placed


def _moved(address: int, offset: int, placed: list[Segment]) -> int:
    """The new file offset of what is loaded at `address`; what is loaded nowhere keeps its own."""
    found = next((each for each in placed if each.holds(address)), None)
    return found.offset + address - found.address if found else offset


def _keep(out: bytearray, image: bytes, section: Section, placed: list[Segment]) -> Section:
    if section.kind == SHT_NULL:
        return section
    if section.flags & SHF_ALLOC:
        return replace(section, offset=_moved(section.address, len(out), placed))
    _pad(out, max(section.align, 1))
    kept = replace(section, offset=len(out))
    if section.kind != SHT_NOBITS:
        out += image[section.offset : section.offset + section.size]
    return kept


def _pad(out: bytearray, align: int) -> None:
    out += bytes(-len(out) % align)


def main() -> None:
    """Packs the file named first into the one named second."""
    source, target = sys.argv[1:]
    try:
        packed = pack(Path(source).read_bytes())
    except (ValueError, struct.error) as error:
        sys.exit(f"{source}: {error}")
    Path(target).write_bytes(packed)
    Path(target).chmod(0o755)


if __name__ == "__main__":
    main()
