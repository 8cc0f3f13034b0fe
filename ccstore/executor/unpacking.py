"""Reads the tar archives in which a Docker daemon gives what a container holds."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from ccstore.codec import tar
from ccstore.errors import CcError
from ccstore.executor.outputs import Output, invalid
from ccstore.ports import Tree

_CHUNK = 1 << 20
_IN_MEMORY = 16 << 20  # bytes: a larger file is written before it is known whether it changed
_SPECIAL = {tarfile.FIFOTYPE: stat.S_IFIFO, tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK}


def unpack(chunks: Iterable[bytes], place: Path, bases: Mapping[str, Tree]) -> None:
    """Puts what is in the one folder of the archive into the empty folder `place`.

    `bases` are the inputs that some entries of that folder began as: of those only what changed is kept.
    """
    outputs: dict[str, Output] = {}
    reader = _Reader(chunks)
    with _opened(reader) as archive:
        for member in archive:
            name, _, path = member.name.partition("/")[2].partition("/")
            if not name:
                continue
            if name not in outputs:
                outputs[name] = Output(_child(place, name), bases.get(name))
            if member.islnk():
                _hard_link(member, outputs, outputs[name], path)
            else:
                _take(archive, member, outputs[name], path)
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
        reader.require_end()
    for output in outputs.values():
        output.finish()


def first_member(chunks: Iterable[bytes], place: Path, limit: int) -> None:
    """Puts the first entry of the archive at `place`, of a file at most `limit` bytes."""
    with _opened(_Reader(chunks)) as archive:
        member = archive.next()
        if member is None:
            return
        if member.isreg():
            place.write_bytes(_content(archive, member).read(limit))
        elif member.isdir():
            place.mkdir()
        elif member.issym():
            place.symlink_to(member.linkname)
        else:
            os.mkfifo(place)


class _Reader:
    """Chunks as the file that `tarfile` reads a stream from."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._left = b""
        self._last = b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end only."""
        data = self._left or next(self._chunks, b"")
        self._left = data[size:]
        self._last = (self._last + data[:size])[-len(tar.END) :]
        return data[:size]

    def require_end(self) -> None:
        """Raises EOFError if the archive was cut short: `tarfile` takes the end of the stream for its end."""
        while self.read(_CHUNK):
            pass
        if self._last != tar.END:
            raise EOFError("it is cut short")


@contextmanager
def _opened(reader: _Reader) -> Iterator[tarfile.TarFile]:
    file = cast(IO[bytes], reader)
    names = {"encoding": "utf-8", "errors": "surrogateescape"}
    try:
        with tarfile.open(fileobj=file, mode="r|", bufsize=_CHUNK, **names) as archive:  # type: ignore[call-overload]
            yield archive
    except (tarfile.TarError, EOFError) as error:
        message = f"what the Docker daemon sent cannot be read: {error}"
        raise CcError("no-docker", message, hint="look at the daemon's log, and try again") from error


def _child(place: Path, name: str) -> Path:
    if name in (".", ".."):
        raise invalid(f"{name!r} cannot be in an output")
    return place / name


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, output: Output, path: str) -> None:
    executable = bool(member.mode & stat.S_IXUSR)
    if member.isdir():
        output.folder(path)
    elif member.issym():
        output.symlink(path, member.linkname)
    elif member.isreg():
        _file(_content(archive, member), output, path, executable, member.size)
    else:
        output.special(path, _SPECIAL.get(member.type, stat.S_IFIFO))


def _hard_link(member: tarfile.TarInfo, outputs: Mapping[str, Output], output: Output, path: str) -> None:
    """Another name of a file that came before becomes a copy of it."""
    name, _, first = member.linkname.partition("/")[2].partition("/")
    if name not in outputs:
        raise invalid(f"{path!r} is a link to something else")
    with outputs[name].open(first) as content:
        size = os.fstat(content.fileno()).st_size
        _file(content, output, path, bool(member.mode & stat.S_IXUSR), size)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(member)
    assert content is not None
    return content


def _file(content: IO[bytes], output: Output, path: str, executable: bool, size: int) -> None:
    known = output.candidate(path, executable, size)
    if known is not None and size <= _IN_MEMORY:
        data = content.read()
        if hashlib.sha256(data).digest() == known.sha256:
            output.unchanged(path)
            return
        with output.file(path, executable) as file:
            file.write(data)
        return
    with output.file(path, executable) as file:
        shutil.copyfileobj(content, file, _CHUNK)
    if known is not None and _sha256(output.place(path)) == known.sha256:
        os.unlink(output.place(path))  # noqa: PTH108
        output.unchanged(path)


def _sha256(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return hashlib.file_digest(file, "sha256").digest()
