"""Writes a commit's tree to a folder, byte for byte as it is in the repository.

There is no checkout: `git ls-tree` and `git cat-file` give names and raw blobs, so no attribute, filter, line-end
conversion, hook or index of anybody's configuration has a say. Names are not trusted: every folder is made by us
and every file is new, so no link of the tree can lead a later entry outside.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ccstore.errors import CcError
from ccstore.transfer.partial import disk_errors

_CHUNK = 1 << 20
_OTHERWISE = "pin another commit, or name `paths` without it"


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One line of `git ls-tree -r`: a file (mode 100644 or 100755), link (120000) or submodule (160000).

    `path` is decoded with surrogateescape.
    """

    mode: str
    id: str
    path: str


def parse_tree(listing: bytes) -> list[TreeEntry]:
    """Reads the output of `git ls-tree -r -z`. Raises `archive-refused` for a name that no tree may hold."""
    entries = []
    for record in listing.split(b"\0")[:-1]:
        head, _, name = record.partition(b"\t")
        mode, _kind, object_id = head.decode("ascii").split()
        path = os.fsdecode(name)
        if any(part in ("", ".", "..") or part.lower() == ".git" for part in path.split("/")):
            raise CcError(
                "archive-refused",
                f"the commit holds a file called {path!r}",
                hint="pin another commit: this one can be unpacked nowhere",
            )
        entries.append(TreeEntry(mode, object_id, path))
    return entries


def select(entries: Sequence[TreeEntry], paths: Sequence[str]) -> list[TreeEntry]:
    """The entries at or below `paths`, all of them without any. Raises `file-missing` for a path that is nowhere."""
    if not paths:
        return list(entries)
    wanted = {path.strip("/"): path for path in paths}
    chosen: list[TreeEntry] = []
    used: set[str] = set()
    for entry in entries:
        found = [prefix for prefix in (entry.path, *_parents(entry.path)) if prefix in wanted]
        if found:
            chosen.append(entry)
            used.update(found)
    missing = [path for key, path in wanted.items() if key not in used]
    if missing:
        raise CcError(
            "file-missing",
            f"the commit has no {', '.join(map(repr, missing))}",
            hint="correct `paths`: files or folders, relative to the top of the repository",
        )
    return chosen


def _parents(path: str) -> list[str]:
    """The folders that `path` is in, from the top on."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def write_tree(entries: Sequence[TreeEntry], to: Path, asking: IO[bytes], answering: IO[bytes]) -> None:
    """Makes the folder `to` with `entries`; the streams are those of a running `git cat-file --batch`.

    Raises `archive-refused` for entries that contradict each other or that no file system takes, `disk-full`,
    EOFError when git ends early.
    """
    to.mkdir(0o755)
    made: set[str] = set()
    for entry in entries:
        with disk_errors(to), _refusals(entry.path):
            for folder in _parents(entry.path):
                if folder not in made:
                    (to / folder).mkdir(0o755)
                    made.add(folder)
            _write_entry(entry, to / entry.path, asking, answering)


@contextmanager
def _refusals(path: str) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise CcError(
            "archive-refused", f"the commit holds {path!r} twice, or below a file", hint=_OTHERWISE
        ) from error
    except ValueError as error:
        raise CcError(
            "archive-refused",
            f"the commit holds {path!r}, which cannot be made: {error}",
            hint=_OTHERWISE,
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.ENOENT):
            raise
        message = f"the commit holds {path!r}, which cannot be made: {error.strerror}"
        raise CcError("archive-refused", message, hint=_OTHERWISE) from error


def _write_entry(entry: TreeEntry, path: Path, asking: IO[bytes], answering: IO[bytes]) -> None:
    if entry.mode == "160000":
        path.mkdir(0o755)  # a submodule is an empty folder, as in a checkout
        return
    size = _ask(entry.id, asking, answering)
    if entry.mode == "120000":
        path.symlink_to(os.fsdecode(_exactly(answering, size)))
    else:
        with path.open("xb") as file:
            while size:
                chunk = _exactly(answering, min(size, _CHUNK))
                file.write(chunk)
                size -= len(chunk)
        path.chmod(0o755 if entry.mode == "100755" else 0o644)
    _exactly(answering, 1)  # the line feed after the content


def _ask(object_id: str, asking: IO[bytes], answering: IO[bytes]) -> int:
    """Asks for a blob; its size, after which its content follows."""
    asking.write(object_id.encode() + b"\n")
    asking.flush()
    answer = answering.readline().split()
    if len(answer) != 3 or answer[1] != b"blob":
        raise EOFError(f"git does not give {object_id}: {b' '.join(answer)!r}")
    return int(answer[2])


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError("git ended early")
    return data
