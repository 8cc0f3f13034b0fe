"""The canonical form of an object, and the one walk in which a tree gets it and is hashed (DESIGN, rules 6, 7).

Files 0444 or 0555 (executable if the owner's bit is set, as in Nix), folders 0555, all times that can be set 1
second after the epoch, owned by whoever runs this, no extended attributes. FIFOs, sockets and devices are
refused unopened (`output-invalid`). The walk reads each file once: for the NAR's hash, which is computed beside
it in a thread, and for the SHA-256 and XXH3-128 that the manifest keeps.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import xxhash

from ccstore.codec import nar
from ccstore.errors import CcError
from ccstore.model.hashes import Sha256
from ccstore.store.files import unique
from ccstore.store.manifest import file_record, folder_record, link_record

FOLDER_MODE = 0o555
MTIME_NS = 10**9
MAX_FOLDER = (
    2800  # bytes of a folder's path in its object: with a name and a store's own path, within PATH_MAX
)
TIMES = (MTIME_NS, MTIME_NS)
# the kernel or the administrator gives these; they say nothing of the content and cannot always be removed
_FOREIGN_XATTRS = frozenset({"security.selinux", "security.ima", "security.evm", "system.nfs4_acl"})


@dataclass(frozen=True, slots=True)
class Scan:
    """What the walk found: the NAR's hash, its length in bytes, and the manifest's records."""

    nar_hash: Sha256
    nar_size: int
    records: list[bytes]


def file_mode(executable: bool) -> int:
    return 0o555 if executable else 0o444


def canonicalise(tree: Path, known: Mapping[bytes, bytes] | None = None, *, may_share: bool = False) -> Scan:
    """Gives the file or tree at `tree` its canonical form and hashes it.

    `known` holds the digests (SHA-256, XXH3-128) of files, by relative path, that are links to another object's:
    they are canonical already and must not be touched. Any other file that also has a name elsewhere is copied,
    unless `tree` is an object already and so `may_share`. Raises CcError `output-invalid` and OSError.
    """
    walk = _Canonicaliser(tree, known or {})
    nar_hash, nar_size = nar.hash_walk(walk)
    if not may_share:
        walk.break_foreign_links()
    return Scan(nar_hash, nar_size, walk.records)


class _Canonicaliser(nar.Walk):
    refusal = "output-invalid"

    def __init__(self, root: Path, known: Mapping[bytes, bytes]) -> None:
        super().__init__(root)
        self.records: list[bytes] = []
        self._known = known
        self._prefix = len(self.root) + 1
        self._user = os.geteuid()
        self._linked: dict[tuple[int, int], list[bytes]] = {}

    def _relative(self, path: bytes) -> bytes:
        return path[self._prefix :]

    def enter(self, folder: bytes) -> list[os.DirEntry[bytes]]:
        relative = self._relative(folder)
        check_depth(relative)
        self.records.append(folder_record(relative))
        if stat.S_IMODE(os.lstat(folder).st_mode) & 0o700 != 0o700:
            os.chmod(folder, 0o700)  # noqa: PTH101
        return super().enter(folder)

    def leave(self, folder: bytes) -> None:
        descriptor = os.open(folder, nar.READ | os.O_DIRECTORY)
        try:
            self._settle(descriptor, os.fstat(descriptor), FOLDER_MODE)
        finally:
            os.close(descriptor)

    def link(self, path: bytes) -> tuple[bytes, ...]:
        target = os.readlink(path)  # noqa: PTH115
        self.records.append(link_record(self._relative(path), target))
        if os.lstat(path).st_uid != self._user:
            os.lchown(path, self._user, -1)
        for name in os.listxattr(path, follow_symlinks=False):
            if name not in _FOREIGN_XATTRS:
                os.removexattr(path, name, follow_symlinks=False)
        os.utime(path, ns=TIMES, follow_symlinks=False)
        return (nar.SYMLINK + nar.string(target) + nar.CLOSE,)

    def file(self, path: bytes) -> Iterable[bytes]:
        relative = self._relative(path)
        if relative in self._known:
            return self._known_file(path, relative)
        descriptor = _open_file(path)
        try:
            status = os.fstat(descriptor)
            executable = bool(status.st_mode & stat.S_IXUSR)
            self._settle(descriptor, status, file_mode(executable))
            if status.st_nlink > 1:
                self._linked.setdefault((status.st_dev, status.st_ino), []).append(path)
            size = status.st_size
            head = nar.file_head(size, executable)
            if size > nar.CHUNK:
                return self._large_file(path, size, executable)
            data = nar.read_all(descriptor, size, path)
        finally:
            os.close(descriptor)
        digests = hashlib.sha256(data).digest() + xxhash.xxh3_128_digest(data)
        self.records.append(file_record(relative, size, executable, digests))
        return (head, data, nar.file_tail(size))

    def _known_file(self, path: bytes, relative: bytes) -> Iterator[bytes]:
        status = os.lstat(path)
        executable = bool(status.st_mode & stat.S_IXUSR)
        self.records.append(file_record(relative, status.st_size, executable, self._known[relative]))
        return iter(super().file(path))

    def _large_file(self, path: bytes, size: int, executable: bool) -> Iterator[bytes]:
        yield nar.file_head(size, executable)
        sha256, xxh3 = hashlib.sha256(), xxhash.xxh3_128()
        for data in nar.read_large(path, size):
            sha256.update(data)
            xxh3.update(data)
            yield data
        digests = sha256.digest() + xxh3.digest()
        self.records.append(file_record(self._relative(path), size, executable, digests))
        yield nar.file_tail(size)

    def _settle(self, descriptor: int, status: os.stat_result, mode: int) -> None:
        if status.st_uid != self._user:
            os.fchown(descriptor, self._user, -1)
        remove_xattrs(descriptor)
        if stat.S_IMODE(status.st_mode) != mode:
            os.fchmod(descriptor, mode)
        os.utime(descriptor, ns=TIMES)

    def break_foreign_links(self) -> None:
        """A file that also has a name outside of this tree could be written to there: it gets an inode here."""
        for paths in self._linked.values():
            if os.lstat(paths[0]).st_nlink > len(paths):
                for path in paths:
                    self._copy_in_place(path)

    def _copy_in_place(self, path: bytes) -> None:
        folder = os.path.dirname(path)  # noqa: PTH120
        inside = path != self.root
        if inside:
            os.chmod(folder, 0o700)  # noqa: PTH101
        copy = os.path.join(folder, unique(".tmp-copy-").encode())
        shutil.copyfile(path, copy)
        os.chmod(copy, stat.S_IMODE(os.lstat(path).st_mode))  # noqa: PTH101
        os.utime(copy, ns=TIMES)
        os.replace(copy, path)  # noqa: PTH105
        if inside:
            os.chmod(folder, FOLDER_MODE)  # noqa: PTH101
            os.utime(folder, ns=TIMES)


def remove_xattrs(descriptor: int) -> None:
    for name in os.listxattr(descriptor):
        if name not in _FOREIGN_XATTRS:
            os.removexattr(descriptor, name)


def has_attributes(descriptor: int) -> bool:
    """Whether an open file has extended attributes that no object's has."""
    return not _FOREIGN_XATTRS.issuperset(os.listxattr(descriptor))


def check_depth(folder: bytes) -> None:
    """Raises `output-invalid` for a folder that is nested too deep; the same in every store, wherever it lies."""
    if len(folder) > MAX_FOLDER:
        raise CcError(
            "output-invalid",
            f"folders are nested too deep: a path has more than {MAX_FOLDER} bytes",
            where=f"{os.fsdecode(folder[:100])}…",
            hint="put fewer folders into each other, or give them shorter names",
        )


def _open_file(path: bytes) -> int:
    try:
        return os.open(path, nar.READ)
    except PermissionError:
        # a build may leave a file that its own owner cannot read
        mode = os.lstat(path).st_mode
        os.chmod(path, mode & 0o100 | 0o400)  # noqa: PTH101
        return os.open(path, nar.READ)
