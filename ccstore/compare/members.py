"""Archives: tar, cpio (newc), ar and zip, each read as a list of members.

Only what a comparison needs is read, and nothing is unpacked; an archive that is damaged or of another dialect is
compared as bytes. Formats: POSIX.1-2001 (pax) and GNU tar, Linux's buffer-format.rst (newc), ar(5), PKWARE's APPNOTE.
"""

from __future__ import annotations

import io
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ccstore.compare.causes import ORDER, TIME, of_texts
from ccstore.compare.findings import Context, Data, Explain, Finding

CPIO, AR, TRAILER = (b"070701", b"070702"), b"!<arch>\n", "TRAILER!!!"
LARGEST = 1 << 30  # bytes of a member of a zip that are unpacked
_DAMAGED = (ValueError, LookupError, OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile)
NAMES = 6  # names that are shown of a list
_CPIO_HEAD = 110  # bytes, of which 13 numbers of 8 hexadecimal digits


@dataclass(frozen=True, slots=True)
class Member:
    """One entry. `facts` are its metadata as text, `content` its bytes."""

    name: str
    content: Callable[[], bytes] = bytes
    facts: Mapping[str, str] = field(default_factory=dict)


Archive = Sequence[Member]


def archive(data: Data) -> tuple[str, Archive] | None:
    """The kind of archive that `data` is, and its members; None for anything else and for what cannot be read."""
    for name, is_it, read in _KINDS:
        if is_it(data):
            try:
                return name, list(read(data))
            except _DAMAGED:
                return None
    return None


def explain(inner: Explain) -> Explain:
    """Explains two archives of one kind by their members, whose contents `inner` explains."""

    def explain_archive(first: Data, second: Data, context: Context) -> Iterator[Finding]:
        one, other = archive(first), archive(second)
        if one and other and one[0] == other[0]:
            yield from _explain(one[1], other[1], context.inside(one[0]), inner)

    return explain_archive


def _explain(first: Archive, second: Archive, context: Context, inner: Explain) -> Iterator[Finding]:
    names, other_names = [each.name for each in first], [each.name for each in second]
    if names != other_names:
        yield _other_names(names, other_names, context)
    rest: dict[str, list[Member]] = {}
    for member in second:
        rest.setdefault(member.name, []).append(member)
    for member in first:
        if rest.get(member.name):
            partner = rest[member.name].pop(0)
            yield from _explain_member(member, partner, context.at(f"member {member.name}"), inner)


def _other_names(first: list[str], second: list[str], context: Context) -> Finding:
    if sorted(first) == sorted(second):
        at = next(i for i, (one, other) in enumerate(zip(first, second, strict=True)) if one != other)
        return context.at("order of members").found(_some(first[at:]), _some(second[at:]), (ORDER,))
    only_first, only_second = sorted(set(first) - set(second)), sorted(set(second) - set(first))
    causes = of_texts(_some(only_first), _some(only_second), context.circumstances)
    return context.at("names of members").found(_some(only_first), _some(only_second), causes)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return " ".join(names[:NAMES]) + more or "(none)"


def _explain_member(first: Member, second: Member, context: Context, inner: Explain) -> Iterator[Finding]:
    for name in first.facts:
        one, other = first.facts[name], second.facts.get(name, "")
        if one != other:
            causes = (TIME,) if name == "time" else of_texts(one, other, context.circumstances)
            yield context.at(name).found(one, other, causes)
    one_content, other_content = first.content(), second.content()
    if one_content != other_content:
        yield from inner(one_content, other_content, context)


def _facts(mode: int, uid: int, gid: int, mtime: float, **more: str) -> dict[str, str]:
    facts = {
        "type and mode": f"{stat.S_IMODE(mode):04o}",
        "owner": str(uid),
        "group": str(gid),
        "time": f"{mtime:.9g}" if mtime % 1 else f"{int(mtime)} ({_date(mtime)})",
    }
    return facts | {name: text for name, text in more.items() if text}


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(min(moment, 1 << 40)))


def _is_tar(data: Data) -> bool:
    return data[257:262] == b"ustar"


def _tar(data: Data) -> Iterator[Member]:
    with tarfile.open(fileobj=io.BytesIO(data[:]), mode="r:") as whole:
        for entry in whole:
            offset, size = entry.offset_data, entry.size if entry.isreg() else 0
            more = {"owner's name": entry.uname, "group's name": entry.gname, "link": entry.linkname}
            facts = _facts(entry.mode, entry.uid, entry.gid, entry.mtime, kind=str(entry.type), **more)
            yield Member(entry.name, _slice(data, offset, size), facts)


def _slice(data: Data, offset: int, size: int) -> Callable[[], bytes]:
    return lambda: data[offset : offset + size]


def _is_cpio(data: Data) -> bool:
    return data[:6] in CPIO


def _cpio(data: Data) -> Iterator[Member]:
    """Members up to the trailer; what follows it (a compressed part) is a member of its own."""
    at = 0
    while data[at : at + 6] in CPIO:
        head = data[at : at + _CPIO_HEAD]
        numbers = [int(head[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
        inode, mode, uid, gid, links, mtime, size, *device, name_size, _ = numbers
        name = data[at + _CPIO_HEAD : at + _CPIO_HEAD + name_size - 1].decode("utf-8", "surrogateescape")
        begin = _aligned(at + _CPIO_HEAD + name_size)
        at = _aligned(begin + size)
        if name == TRAILER:
            while data[at : at + 1] == b"\0":
                at += 1
            continue
        more = {"inode": str(inode), "links": str(links), "device": " ".join(map(str, device))}
        yield Member(name, _slice(data, begin, size), _facts(mode, uid, gid, mtime, **more))
    if at < len(data):
        yield Member("(what follows)", _slice(data, at, len(data) - at))


def _aligned(offset: int) -> int:
    return offset + 3 & ~3


def _is_ar(data: Data) -> bool:
    return data[:8] == AR


def _ar(data: Data) -> Iterator[Member]:
    at = len(AR)
    while at + 60 <= len(data):
        name, mtime, uid, gid, mode, size, end = (
            data[at + low : at + high]
            for low, high in ((0, 16), (16, 28), (28, 34), (34, 40), (40, 48), (48, 58), (58, 60))
        )
        if end != b"`\n":
            raise ValueError("no header of ar")
        facts = (
            _facts(int(mode or b"0", 8), _number(uid), _number(gid), _number(mtime)) if mode.strip() else {}
        )
        yield Member(name.decode("latin-1").rstrip(), _slice(data, at + 60, int(size)), facts)
        at += 60 + int(size) + (int(size) & 1)


def _number(text: bytes) -> int:
    return int(text) if text.strip() else 0


def _is_zip(data: Data) -> bool:
    return data[:4] in (b"PK\3\4", b"PK\5\6")


def _zip(data: Data) -> Iterator[Member]:
    whole = zipfile.ZipFile(io.BytesIO(data[:]))

    def content(entry: zipfile.ZipInfo) -> Callable[[], bytes]:
        return lambda: _zip_content(whole, entry)

    for entry in whole.infolist():
        facts = {"time": "{}-{:02}-{:02} {:02}:{:02}:{:02}".format(*entry.date_time)}
        facts["mode"] = f"{entry.external_attr >> 16:06o}"
        yield Member(entry.filename, content(entry), facts)


def _zip_content(whole: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """What a member holds, or why that cannot be told."""
    if entry.file_size > LARGEST:
        return b"(too large)"
    try:
        return whole.read(entry)
    except (*_DAMAGED, NotImplementedError, RuntimeError) as error:  # another compression; encrypted
        return f"({error})".encode()


_KINDS: tuple[tuple[str, Callable[[Data], bool], Callable[[Data], Iterator[Member]]], ...] = (
    ("tar", _is_tar, _tar),
    ("cpio", _is_cpio, _cpio),
    ("ar", _is_ar, _ar),
    ("zip", _is_zip, _zip),
)
