"""Files of unrelated objects that hold the same share one inode: where another one is, and how it takes the place.

The index knows which objects have a file of which key, half of an XXH3-128 and the executable bit. A key only finds
candidates: manifests say whether size and digests agree too, and then the bytes are compared. So a damaged file is
never shared, nor one whose mode or time is not canonical; and what is linked is the inode that was compared.

Two files of one object stay two, whatever they hold: a build that copies its input with `cp -a` and appends to one
of them would change both.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from ccstore.codec import nar
from ccstore.model.storepath import StorePath
from ccstore.ports import Fault, no_fault
from ccstore.store import links, manifest
from ccstore.store.canonical import FOLDER_MODE, MTIME_NS, TIMES, file_mode, has_attributes
from ccstore.store.database import Database, Holders
from ccstore.store.files import BLOCK
from ccstore.store.layout import Layout
from ccstore.store.manifest import Record

WORTH = 16 << 10  # bytes: to register a smaller file, comparing and linking takes longer than writing it
_OPENED = 0o755  # others go on reading the folder


class Pair(NamedTuple):
    """A file, `target`, that is to become one with `source`: both were opened and compared, with these inodes."""

    target: bytes
    source: bytes
    target_inode: tuple[int, int]
    source_inode: tuple[int, int]
    executable: bool


@dataclass(frozen=True, slots=True)
class Shared:
    """`files` that take no room of their own any more, and the `freed` bytes that they took."""

    files: int = 0
    freed: int = 0

    def __add__(self, other: Shared) -> Shared:
        return Shared(self.files + other.files, self.freed + other.freed)


NOTHING = Shared()


def shareable(records: Iterable[Record]) -> list[Record]:
    """The files that can be shared: an empty one takes no room."""
    return [record for record in records if record[0] in b"fx" and record[2]]


def key(record: Record) -> int:
    """What the index knows a file by."""
    kind, _, _, digests = record
    return int.from_bytes(digests[32:40], "little", signed=True) ^ (kind == b"x")


class Finder:
    """Finds, for files of one object, those of others that are the same."""

    def __init__(self, layout: Layout, database: Database) -> None:
        self._layout = layout
        self._database = database

    def pairs(self, tree: bytes, files: list[Record], holders: Holders, *, trusted: bool) -> Iterator[Pair]:
        """Files of the tree at `tree` whose keys `holders` has, with others that hold the same.

        `files` are all that the tree has. They were hashed just now if they are `trusted`; else both are hashed too.
        """
        occupied = _occupied(tree, files)
        left = [record for record in files if key(record) in holders]
        for which in (0, 1):  # one that has all the names it may have, or is damaged, is not the last word
            found = set()
            bases = {each: both[which] for each, both in holders.items()}
            for mine, source in self.candidates(left, bases):
                pair = _compared(mine, place(tree, mine), source, trusted=trusted)
                if pair is None or pair.source_inode in occupied - {pair.target_inode}:
                    continue
                found.add(mine[1])
                if pair.target_inode != pair.source_inode:
                    occupied.add(pair.source_inode)
                    yield pair
            left = [record for record in left if record[1] not in found]

    def candidates(
        self, files: Iterable[Record], holders: Mapping[int, str]
    ) -> Iterator[tuple[Record, bytes]]:
        """Some of `files`, and where a file is that should be the same: each of those for one file only."""
        wanted: dict[str, dict[int, list[Record]]] = {}
        for record in files:
            base = holders.get(key(record))
            if base:
                wanted.setdefault(base, {}).setdefault(key(record), []).append(record)
        for base, keys in wanted.items():
            yield from self._in_object(base, keys)

    def _in_object(self, base: str, wanted: Mapping[int, list[Record]]) -> Iterator[tuple[Record, bytes]]:
        try:
            path = StorePath.parse(base)
            records = shareable(manifest.load(self._layout.manifest(path))[1])
        except (OSError, ValueError):
            return  # deleted meanwhile, or damaged: `verify` says so
        tree = os.fsencode(self._layout.object(path))
        for record in records:
            mine = _take(wanted.get(key(record)), record)
            if mine:
                yield mine, place(tree, record)


def place(tree: bytes, record: Record) -> bytes:
    return b"%b/%b" % (tree, record[1]) if record[1] else tree


def _occupied(tree: bytes, files: list[Record]) -> set[tuple[int, int]]:
    """The inodes of all that the tree may have more than once: no two of these become one."""
    counts = Counter(map(key, files))
    found = set()
    for record in files:
        if counts[key(record)] > 1:
            with contextlib.suppress(OSError):
                status = os.lstat(place(tree, record))
                found.add((status.st_dev, status.st_ino))
    return found


def _take(files: list[Record] | None, like: Record) -> Record | None:
    """The first of `files` that holds what `like` holds; it is no longer in there."""
    for number, record in enumerate(files or ()):
        if (record[0], *record[2:]) == (like[0], *like[2:]):
            return (files or []).pop(number)
    return None


def _compared(record: Record, target: bytes, source: bytes, *, trusted: bool) -> Pair | None:
    """Both files, if they hold the same and are what they should be."""
    kind, _, size, digests = record
    with contextlib.suppress(OSError), _opened(source) as theirs, _opened(target) as mine:
        status, own = os.fstat(theirs), os.fstat(mine)
        if any(not _is_canonical(each, kind == b"x", size) for each in (status, own)):
            return None
        inodes = (own.st_dev, own.st_ino), (status.st_dev, status.st_ino)
        if status.st_uid != own.st_uid or has_attributes(theirs):
            return None
        if inodes[0] == inodes[1] or _same(mine, theirs, size, None if trusted else digests[:32]):
            return Pair(target, source, *inodes, kind == b"x")
    return None


@contextmanager
def _opened(path: bytes) -> Iterator[int]:
    descriptor = os.open(path, nar.READ)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_canonical(status: os.stat_result, executable: bool, size: int) -> bool:
    mode = stat.S_IFREG | file_mode(executable)
    return (status.st_mode, status.st_size, status.st_mtime_ns) == (mode, size, MTIME_NS)


def _same(one: int, other: int, size: int, sha256: bytes | None) -> bool:
    """Whether both hold the same `size` bytes, with the hash `sha256` if one is given."""
    state = hashlib.sha256()
    left = size
    while left > 0:
        data = os.read(one, nar.CHUNK)
        if not data or data != os.read(other, nar.CHUNK):
            return False
        left -= len(data)
        if sha256:
            state.update(data)
    return not sha256 or state.digest() == sha256


def put(tree: bytes, pairs: Iterable[Pair], new_name: Callable[[], bytes], fault: Fault = no_fault) -> Shared:
    """Puts a link to its source in the place of each target, below the folder or at the file `tree`.

    The links are made as `new_name` says, on the same file system, and moved from there. Raises OSError.
    """
    done = NOTHING
    by_folder: dict[bytes, list[Pair]] = {}
    for pair in pairs:
        folder = os.path.dirname(pair.target)  # noqa: PTH120
        by_folder.setdefault(folder, []).append(pair)
    for folder, found in by_folder.items():
        with contextlib.nullcontext() if found[0].target == tree else _writable(folder, fault):
            for pair in found:
                done += _put(pair, new_name(), fault)
    return done


@contextmanager
def _writable(folder: bytes, fault: Fault) -> Iterator[None]:
    """For as long as files in it are replaced. Root needs no other mode for that."""
    closed = not os.access(folder, os.W_OK)
    if closed:
        os.chmod(folder, _OPENED)  # noqa: PTH101
        fault("open-folder")
    try:
        yield
    finally:
        close_folder(folder, fault)


def close_folder(folder: bytes, fault: Fault = no_fault) -> None:
    """Gives a folder its canonical mode and time again."""
    status = os.lstat(folder)
    if stat.S_IMODE(status.st_mode) != FOLDER_MODE:
        os.chmod(folder, FOLDER_MODE)  # noqa: PTH101
        fault("close-folder")
    if status.st_mtime_ns != MTIME_NS:
        os.utime(folder, ns=TIMES)
        fault("settle-folder")


def _put(pair: Pair, temporary: bytes, fault: Fault) -> Shared:
    with contextlib.suppress(FileNotFoundError), ExitStack() as stack:  # collected meanwhile
        stack.callback(_unlink, temporary)
        is_link = links.link(pair.source, temporary)
        if not is_link and not links.clone(pair.source, temporary, file_mode(pair.executable)):
            return NOTHING
        fault("link")
        new, old = os.lstat(temporary), os.lstat(pair.target)
        if is_link and (new.st_dev, new.st_ino) != pair.source_inode:
            return NOTHING
        if (old.st_dev, old.st_ino) != pair.target_inode:
            return NOTHING
        os.replace(temporary, pair.target)  # noqa: PTH105
        stack.pop_all()
        fault("replace")
        return Shared(1, old.st_blocks * BLOCK if old.st_nlink == 1 else 0)
    return NOTHING


def _unlink(path: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108


class Sharing:
    """What registration does: the files of a new object become links to those of registered ones."""

    def __init__(self, layout: Layout, database: Database, new_name: Callable[[], str]) -> None:
        self._layout = layout
        self._database = database
        self._finder = Finder(layout, database)
        self._new_name = new_name

    def run(self, tree: bytes, path: StorePath, records: list[bytes], known: Collection[bytes]) -> list[int]:
        """Shares what is worth it of the tree in canonical form at `tree`, which is to be the object `path`.

        Those of `known` are links already. Returns the keys of all its files. Raises OSError.
        """
        files = shareable(manifest.parse(records))
        keys = [key(record) for record in files]
        new = [
            each
            for each, (_, name, size, _) in zip(keys, files, strict=True)
            if size >= WORTH and name not in known
        ]
        holders = self._database.holders(new, path)
        if holders:
            pairs = list(self._finder.pairs(tree, files, holders, trusted=True))
            put(tree, pairs, lambda: os.fsencode(self._layout.objects / self._new_name()))
        return keys
