"""Reads tar archives without trusting them.

Debian packages and source tarballs come from elsewhere, so every entry is judged by this reader before any byte
of it reaches a tool or the disk. Stdlib only: the file also runs inside the sandbox, beside `tarfilter.py`.

What is read: ustar, GNU long names, pax headers, V7. Readers disagree about anything odder than that, and what
one reader takes for a file's body another takes for a header; so whatever is unusual is refused rather than
interpreted. Names stay bytes throughout: an archive says nothing of their encoding.

Why following the links of an accepted tree stays inside it: no entry lies below a link, so the folder of each
link is a real one; a relative link may start with `..` no more often than it has parents, and may not use it
later, where what went before could itself be a link.

Sources: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar
Format".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

BLOCK = 512
MAX_ENTRIES = 1_000_000
MAX_BYTES = 64 << 30

FILE, DIRECTORY, SYMLINK, HARDLINK = "file", "folder", "symbolic link", "hard link"
_KINDS = {b"0": FILE, b"\0": FILE, b"5": DIRECTORY, b"2": SYMLINK, b"1": HARDLINK}
_REFUSED = {
    b"3": "is a character device",
    b"4": "is a block device",
    b"6": "is a FIFO",
    b"S": "is a sparse file",
}
_ZEROS = bytes(BLOCK)
_SPACES = 8 * b" "
_MAX_NAME = 4096  # bytes, Linux' PATH_MAX
_MAX_PART = 255  # bytes between two slashes, Linux' NAME_MAX
_MAX_PAX = 1 << 20
_MAX_PADDING = 1 << 20  # tar fills its last record with zeros; records are 10 KiB unless told otherwise
_PAX_NAMES = frozenset({b"path", b"linkpath", b"size"})
_PAX_IGNORED = frozenset({b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname", b"comment"})
_PAX_IGNORED_VENDORS = (b"SCHILY.", b"LIBARCHIVE.", b"RHT.")


class ArchiveRefused(Exception):  # noqa: N818 (it names what happened to the archive)
    """The archive holds `entry`, which is not let through because it `reason` (a verb phrase)."""

    def __init__(self, entry: bytes, reason: str) -> None:
        self.entry = printable(entry)
        self.reason = reason
        super().__init__(f"{self.entry}: {reason}" if self.entry else reason)


def printable(name: bytes) -> str:
    """`name` on one line of a terminal, whatever bytes it holds, cut to 200 characters."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:200])


class Source(Protocol):
    """Where an archive's bytes come from, in order."""

    def take(self, size: int) -> bytes:
        """The next `size` bytes; fewer only where the archive ends."""

    def skip(self, size: int) -> bool:
        """Passes over `size` bytes; False if the archive ends before."""


@dataclass(slots=True)
class Member:
    """One entry. `path` is normalised: no `.`, no empty part, no slash at either end; b"" is the top folder.

    `target` is a link's text, for a hard link normalised as `path` is. `size` is in bytes. `mode` holds the
    permission bits as written in the archive.
    """

    path: bytes
    kind: str
    size: int
    mode: int
    target: bytes = b""


def normalise(name: bytes) -> bytes:
    """The path that `name` means below the top of the tree. Raises ArchiveRefused if it leaves the tree."""
    if name[:1] == b"/":
        raise ArchiveRefused(name, "has an absolute name")
    parts = name.split(b"/")
    if b".." in parts:
        raise ArchiveRefused(name, "has '..' in its name")
    if b"" in parts or b"." in parts:
        if not name:
            raise ArchiveRefused(name, "an entry has an empty name")
        return b"/".join([part for part in parts if part not in (b"", b".")])
    return name


def members(source: Source) -> Iterator[Member]:
    """Every entry, in order; a body is skipped when the next entry is asked for. Raises ArchiveRefused."""
    reader = _Headers(source)
    while (member := reader.next()) is not None:
        yield member
        if not source.skip(-(-member.size // BLOCK) * BLOCK):
            raise ArchiveRefused(member.path, "is cut short: the archive ends in its body")
    padding = source.take(_MAX_PADDING + 1)
    if len(padding) > _MAX_PADDING or padding.strip(b"\0"):
        raise ArchiveRefused(b"", "the archive goes on after its end")


class _Headers:
    """Header blocks, with the long names and pax records that come before them applied."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._extra: dict[bytes, bytes] = {}
        self._has_pax = False

    def next(self) -> Member | None:
        while True:
            block = self._source.take(BLOCK)
            if not block or block == _ZEROS:
                if self._extra:
                    raise ArchiveRefused(b"", "a long name or pax header belongs to no entry")
                return None
            self._check(block)
            kind = _KINDS.get(block[156:157])
            if kind is not None:
                return self._member(block, kind)
            self._extension(block)

    @staticmethod
    def _check(block: bytes) -> None:
        if len(block) < BLOCK:
            raise ArchiveRefused(b"", "the archive ends in the middle of a header")
        if sum(block) - sum(block[148:156]) + 8 * 32 != _number(block, 148, 8):
            raise ArchiveRefused(_text(block[:100]), "has a header with a wrong checksum")
        if block[257:265] not in (b"ustar\00000", b"ustar  \0", bytes(8)):
            raise ArchiveRefused(_text(block[:100]), "has a header of an unknown format")

    def _member(self, block: bytes, kind: str) -> Member:
        extra, self._extra, self._has_pax = self._extra, {}, False
        name = extra.get(b"path") or _name(block)
        size = _decimal(extra[b"size"], name) if b"size" in extra else _number(block, 124, 12)
        path = normalise(name)
        if kind is FILE and name[-1:] == b"/":
            kind = DIRECTORY  # how V7 wrote folders
        if kind is not DIRECTORY and name.rpartition(b"/")[2] in (b"", b"."):
            raise ArchiveRefused(name, f"is a {kind} with the name of a folder")
        if kind is FILE:
            return Member(path, kind, size, _number(block, 100, 8))
        if size:
            raise ArchiveRefused(path, f"is a {kind} with a body")
        target = b""
        if kind is not DIRECTORY:
            target = extra.get(b"linkpath") or _text(block[157:257])
            if kind is HARDLINK:
                target = _hard_target(path, target)
        return Member(path, kind, 0, _number(block, 100, 8), target)

    def _extension(self, block: bytes) -> None:
        type_flag = block[156:157]
        if type_flag in (b"L", b"K"):
            key = b"path" if type_flag == b"L" else b"linkpath"
            name = self._body(block, _MAX_NAME + 1, padded=True)
            if name[_number(block, 124, 12) :].strip(
                b"\0"
            ):  # some read on to the first NUL, others stop here
                raise ArchiveRefused(name, "is a long name with more behind its end")
            self._add(key, name.rstrip(b"\0"))
        elif type_flag in (b"x", b"g"):
            if type_flag == b"x" and self._has_pax:  # to GNU tar the last one counts, to others all do
                raise ArchiveRefused(_name(block), "an entry is given two pax headers")
            self._has_pax = self._has_pax or type_flag == b"x"
            for key, value in _pax_records(self._body(block, _MAX_PAX)):
                if key in _PAX_NAMES and type_flag == b"g":
                    raise ArchiveRefused(b"", f"a global pax header sets {printable(key)!r}")
                if key in _PAX_NAMES:
                    self._add(key, value)
        else:
            reason = _REFUSED.get(type_flag, f"is of an unknown type {printable(type_flag)!r}")
            raise ArchiveRefused(self._extra.get(b"path") or _name(block), reason)

    def _add(self, key: bytes, value: bytes) -> None:
        if key in self._extra:
            raise ArchiveRefused(value, f"an entry is given two values for {key.decode()}")
        if not value or b"\0" in value or len(value) > _MAX_NAME:
            raise ArchiveRefused(value, f"an entry's {key.decode()} is empty, too long or holds a NUL")
        self._extra[key] = value

    def _body(self, block: bytes, limit: int, *, padded: bool = False) -> bytes:
        size = _number(block, 124, 12)
        if size > limit:
            raise ArchiveRefused(_name(block), f"is a header of {size} bytes; {limit} are allowed")
        body = self._source.take(-(-size // BLOCK) * BLOCK)
        if len(body) < size:
            raise ArchiveRefused(_name(block), "is cut short: the archive ends in a long header")
        return body if padded else body[:size]


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _name(block: bytes) -> bytes:
    name = _text(block[:100])
    if block[345] and block[257:263] == b"ustar\0":  # GNU's own format keeps other things there
        return _text(block[345:500]) + b"/" + name
    return name


def _number(block: bytes, start: int, width: int) -> int:
    """An octal field ended by NUL or space, or GNU's base-256 form for large numbers."""
    field = block[start : start + width]
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.rstrip(b"\0 ").lstrip(b" ")
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise ArchiveRefused(_name(block), f"has a header with {printable(field)!r} for a number")
    return int(digits, 8)


def _decimal(digits: bytes, name: bytes) -> int:
    if not digits.isdigit() or len(digits) > 19:
        raise ArchiveRefused(name, f"has a pax size of {printable(digits)!r}")
    return int(digits)


def _hard_target(path: bytes, target: bytes) -> bytes:
    try:
        return normalise(target)
    except ArchiveRefused:
        raise ArchiveRefused(path, f"is a hard link out of the tree, to {printable(target)!r}") from None


def _pax_records(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The `length key=value newline` records that change an entry; refuses keys that may change its meaning."""
    while body:
        length, space, _ = body.partition(b" ")
        end = int(length) if length.isdigit() and len(length) < 8 else 0
        record = body[len(length) + 1 : end]
        key, equals, value = record.partition(b"=")
        if not space or not equals or not key or record[-1:] != b"\n" or end > len(body):
            raise ArchiveRefused(b"", f"a pax header is malformed at {printable(body[:40])!r}")
        if key in _PAX_NAMES:
            yield key, value[:-1]
        elif key not in _PAX_IGNORED and not key.startswith(_PAX_IGNORED_VENDORS):
            raise ArchiveRefused(b"", f"a pax header sets {printable(key)!r}, which is not supported")
        body = body[end:]


class TreeCheck:
    """Judges the entries of one archive, one after another, as a tree that grows.

    `absolute_links` lets symbolic links start with a slash: in a root file system they are resolved in the
    sandbox's root, in a source tree they would leave it. `max_bytes` counts the bodies of all files. `strip` is how
    many folders at the top whoever unpacks the archive takes away: a link may not lead into those.
    """

    def __init__(
        self,
        *,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
        absolute_links: bool = False,
        strip: int = 0,
    ) -> None:
        self._max_entries = max_entries
        self._entries_left = max_entries
        self._max_bytes = max_bytes
        self._bytes_left = max_bytes
        self._absolute_links = absolute_links
        self._strip = strip
        self._kinds: dict[bytes, str] = {b"": DIRECTORY}

    def add(self, member: Member) -> None:
        """Raises ArchiveRefused if the tree with `member` in it could reach outside, or grows too large."""
        self._entries_left -= 1
        if self._entries_left < 0:
            raise ArchiveRefused(member.path, f"is one too many: {self._max_entries} entries are allowed")
        self._bytes_left -= member.size
        if self._bytes_left < 0:
            raise ArchiveRefused(member.path, f"is too large: {self._max_bytes} bytes in all are allowed")
        if len(member.path) > _MAX_NAME:
            raise ArchiveRefused(member.path, f"has a name of more than {_MAX_NAME} bytes")
        if len(member.path) > _MAX_PART and max(map(len, member.path.split(b"/"))) > _MAX_PART:
            raise ArchiveRefused(member.path, f"has a part of more than {_MAX_PART} bytes in its name")
        self._check_parents(member.path)
        self._check_kind(member)
        if member.kind is SYMLINK:
            self._check_symlink(member)
        elif member.kind is HARDLINK:
            self._check_hard_link(member)

    def _check_kind(self, member: Member) -> None:
        before = self._kinds.setdefault(member.path, member.kind)
        if before is not member.kind:
            raise ArchiveRefused(member.path, f"is a {member.kind} where a {before} came before")

    def _check_parents(self, path: bytes) -> None:
        parent = path.rpartition(b"/")[0]
        while True:
            kind = self._kinds.get(parent)
            if kind is DIRECTORY:
                return
            if kind is not None:
                raise ArchiveRefused(path, f"would be written through the {kind} {printable(parent)!r}")
            self._kinds[parent] = DIRECTORY
            parent = parent.rpartition(b"/")[0]

    def _check_hard_link(self, member: Member) -> None:
        if member.target == member.path or self._kinds.get(member.target) not in (FILE, HARDLINK):
            text = printable(member.target)
            raise ArchiveRefused(member.path, f"is a hard link to {text!r}, which is no earlier file")

    def _check_symlink(self, member: Member) -> None:
        target = member.target
        if not target:
            raise ArchiveRefused(member.path, "is a symbolic link to nothing")
        if target[:1] == b"/":
            if not self._absolute_links:
                raise ArchiveRefused(member.path, f"is a link out of the tree, to {printable(target)!r}")
            return
        parts = [part for part in target.split(b"/") if part not in (b"", b".")]
        ups = parts.count(b"..")
        if parts[:ups].count(b"..") != ups:
            reason = f"is a link that goes down and up again: {printable(target)!r}"
            raise ArchiveRefused(member.path, reason)
        if ups > member.path.count(b"/") - self._strip:
            raise ArchiveRefused(member.path, f"is a link out of the tree, to {printable(target)!r}")
