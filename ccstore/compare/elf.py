"""ELF files: which section differs, and in which symbol."""

from __future__ import annotations

import bisect
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import TYPE_CHECKING

from ccstore.compare import text
from ccstore.compare.blobs import excerpt, spots
from ccstore.compare.causes import ORDER, of_bytes, of_texts
from ccstore.compare.findings import Context, Data, Finding

if TYPE_CHECKING:  # slow to load, and only files that differ need it
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection

MAGIC, SHF_STRINGS = b"\x7fELF", 0x20
PER_SECTION = 3  # findings of one section
BUILD_ID = "the build id is a hash of the rest"


@dataclass(frozen=True, slots=True)
class Section:
    """A section with its bytes; `address` is where it is loaded, 0 if it is not; `index` its number.

    `strings`: it holds nothing but strings that end with a zero.
    """

    name: str
    index: int
    address: int
    data: bytes
    strings: bool = False


@dataclass(slots=True)
class Image:
    """An ELF file. `symbols` are (section's index or -1, address, size, name), sorted."""

    sections: list[Section] = field(default_factory=list)
    symbols: list[tuple[int, int, int, str]] = field(default_factory=list)


def is_elf(data: Data) -> bool:
    return data[:4] == MAGIC


def explain(first: Data, second: Data, context: Context) -> Iterator[Finding]:
    one, other = _read(first), _read(second)
    if one is None or other is None:
        return
    partners = {(each.name, number): each for number, each in _numbered(other.sections)}
    for number, section in _numbered(one.sections):
        partner = partners.pop((section.name, number), None)
        here = context.at(f"section {section.name}")
        if partner is None:
            yield here.found(f"{len(section.data)} bytes", "(no such section)")
        elif section.data != partner.data:
            yield from _explain_section(one, section, partner, here)
    for added in partners.values():
        yield context.at(f"section {added.name}").found("(no such section)", f"{len(added.data)} bytes")


def _numbered(sections: list[Section]) -> Iterator[tuple[int, Section]]:
    """Each section with how many before it have its name."""
    seen: dict[str, int] = {}
    for each in sections:
        number = seen[each.name] = seen.get(each.name, -1) + 1
        yield number, each


def _explain_section(image: Image, first: Section, second: Section, context: Context) -> Iterator[Finding]:
    if first.name == ".note.gnu.build-id":
        yield context.found(first.data[-20:].hex(), second.data[-20:].hex(), (BUILD_ID,))
        return
    if first.strings and second.strings:
        yield from islice(_explain_strings(first.data, second.data, context), PER_SECTION)
        return
    for shown, offset in enumerate(spots(first.data, second.data)):
        if shown == PER_SECTION:
            return
        symbol = _symbol(image, first, offset, context.symbols)
        place = (f"symbol {symbol}",) if symbol else ()
        causes = of_bytes(first.data, second.data, offset, context.circumstances)
        where = context.at(*place, f"byte {offset:#x}")
        yield where.found(excerpt(first.data, offset), excerpt(second.data, offset), causes)
        if len(first.data) != len(second.data):
            return


def _explain_strings(first: bytes, second: bytes, context: Context) -> Iterator[Finding]:
    """Strings that only one of them has; a linker may sort them by length or by hash."""
    one, other = (Counter(each.decode("latin-1").split("\0")) for each in (first, second))
    gone, new = list((one - other).elements()), list((other - one).elements())
    if not gone and not new:
        yield context.at("strings").found(excerpt(first, 0), excerpt(second, 0), (ORDER,))
    for before, after in zip_longest(gone, new):
        causes = of_texts(before or "", after or "", context.circumstances)
        yield context.at("string").found(*text.shown(before, after), causes)


def _symbol(image: Image, section: Section, offset: int, others: Mapping[int, str]) -> str | None:
    """The symbol at `offset` of the section, from the file's own table, else from `others` (System.map)."""
    key = (section.index, section.address + offset, 1 << 64, "")
    at = bisect.bisect(image.symbols, key) - 1
    if at >= 0 and image.symbols[at][0] == section.index:
        _, address, size, name = image.symbols[at]
        distance = section.address + offset - address
        if distance < max(size, 1):
            return f"{name}+{distance:#x}" if distance else name
    if not section.address or not others:
        return None
    known = sorted(others)
    at = bisect.bisect(known, section.address + offset) - 1
    if at < 0:
        return None
    distance = section.address + offset - known[at]
    return f"{others[known[at]]}+{distance:#x}" if distance else others[known[at]]


def _read(data: Data) -> Image | None:
    """None for what is no ELF file, or a damaged one."""
    if not is_elf(data):
        return None
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    damaged = (ELFError, ValueError, LookupError, AttributeError, TypeError, AssertionError, OverflowError)
    try:
        return _image(ELFFile(io.BytesIO(data[:])))
    except damaged:
        return None


def _image(file: ELFFile) -> Image:
    image = Image()
    from elftools.elf.sections import SymbolTableSection

    tables: dict[str, SymbolTableSection] = {}
    for index, section in enumerate(file.iter_sections()):
        kind = section["sh_type"]
        if isinstance(section, SymbolTableSection):
            tables[kind] = section
        if kind not in ("SHT_NULL", "SHT_NOBITS"):
            strings = kind == "SHT_STRTAB" or bool(section["sh_flags"] & SHF_STRINGS)
            image.sections.append(Section(section.name, index, section["sh_addr"], section.data(), strings))
    table = tables.get("SHT_SYMTAB") or tables.get("SHT_DYNSYM")
    if table is not None:
        image.symbols = sorted(_symbols(table))
    return image


def _symbols(table: SymbolTableSection) -> Iterator[tuple[int, int, int, str]]:
    for each in table.iter_symbols():
        named = each.name and each["st_info"]["type"] not in ("STT_SECTION", "STT_FILE")
        if named and isinstance(each["st_shndx"], int):
            yield each["st_shndx"], each["st_value"], each["st_size"], each.name
