"""Sizes of sections and symbols of an ELF file.

A kernel that boots has no symbols; its System.map has their addresses (nm(1)), and what lies between two of them is
taken as the size of the first.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # slow to load, and only linked files need it
    from elftools.elf.elffile import ELFFile

MAGIC = b"\x7fELF"
MEASURED = ("STT_OBJECT", "STT_FUNC")


def is_elf(data: bytes) -> bool:
    return data.startswith(MAGIC)


def section_sizes(data: bytes) -> Counter[str]:
    """The size of each section in bytes; those of one name are counted together. Raises ValueError."""
    sizes: Counter[str] = Counter()
    with _opened(data) as file:
        for section in file.iter_sections():
            if section["sh_type"] != "SHT_NULL":
                sizes[section.name] += section["sh_size"]
    return sizes


def symbol_sizes(data: bytes) -> Counter[str]:
    """The size of each function and object that the file's symbol table names; empty for a stripped file.

    Raises ValueError.
    """
    from elftools.elf.sections import SymbolTableSection

    sizes: Counter[str] = Counter()
    with _opened(data) as file:
        tables = [each for each in file.iter_sections("SHT_SYMTAB") if isinstance(each, SymbolTableSection)]
        for symbol in (each for table in tables for each in table.iter_symbols()):
            if symbol["st_info"]["type"] in MEASURED and symbol["st_size"]:
                sizes[symbol.name] += symbol["st_size"]
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


@contextmanager
def _opened(data: bytes) -> Iterator[ELFFile]:
    """The file, read as it is looked at; whatever is wrong with it is a ValueError."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        yield ELFFile(io.BytesIO(data))
    except (ELFError, LookupError, AttributeError, TypeError, AssertionError, OverflowError) as error:
        raise ValueError(f"a damaged ELF file: {error}") from error
