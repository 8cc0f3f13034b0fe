"""Sizes of sections and symbols of an ELF file, as the System V ABI lays it out: 64-bit, little-endian.

A kernel that boots has no symbols; its System.map has their addresses (nm(1)), and what lies between two of them is
taken as the size of the first.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from ccstore.builders.elfpack import EHDR, IDENT, SHDR, SHT_NULL, Section

SHT_SYMTAB = 2
SYMBOL = struct.Struct("<IBBHQQ")
STT_OBJECT, STT_FUNC = 1, 2


def is_elf(data: bytes) -> bool:
    return data[: len(IDENT)] == IDENT and len(data) >= EHDR.size


def section_sizes(data: bytes) -> Counter[str]:
    """The size of each section in bytes; those of one name are counted together. Raises ValueError."""
    sizes: Counter[str] = Counter()
    for name, section in _sections(data):
        sizes[name] += section.size
    return sizes


def symbol_sizes(data: bytes) -> Counter[str]:
    """The size of each function and object that the file's symbol table names; empty for a stripped file."""
    sizes: Counter[str] = Counter()
    sections = [section for _, section in _sections(data, null=True)]
    for table in sections:
        if table.kind != SHT_SYMTAB:
            continue
        names = _content(data, sections[table.link]) if table.link < len(sections) else b""
        symbols = _content(data, table)
        for name, info, _, _, _, size in SYMBOL.iter_unpack(
            symbols[: len(symbols) // SYMBOL.size * SYMBOL.size]
        ):
            if info & 15 in (STT_OBJECT, STT_FUNC) and size:
                sizes[_string(names, name)] += size
    return sizes


def map_sizes(text: str) -> Counter[str]:
    """The same by a System.map."""
    symbols: list[tuple[int, str]] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in "tTdDbBrRwWvV":
            symbols.append((int(words[0], 16), words[2]))
    sizes: Counter[str] = Counter()
    symbols.sort(key=lambda each: each[0])
    for (start, name), (end, _) in pairwise(symbols):
        sizes[name] += end - start
    return +sizes


def _sections(data: bytes, *, null: bool = False) -> Iterator[tuple[str, Section]]:
    try:
        header = EHDR.unpack_from(data)
        sections = [Section(*SHDR.unpack_from(data, header[6] + i * SHDR.size)) for i in range(header[12])]
        names = _content(data, sections[header[13]]) if sections else b""
    except (struct.error, IndexError) as error:
        raise ValueError(f"a damaged ELF file: {error}") from error
    for section in sections:
        if null or section.kind != SHT_NULL:
            yield _string(names, section.name), section


def _content(data: bytes, section: Section) -> bytes:
    return data[section.offset : section.offset + section.size]


def _string(table: bytes, at: int) -> str:
    return table[at : table.find(b"\0", at)].decode(errors="replace")
