"""Getting one object from a cache: download, decompress and unpack at once, in constant memory.

Nothing is believed. The narinfo was compared with what is wanted before anything is fetched; the file and the NAR may
be no longer than it says. The NAR reader takes nothing but the one NAR of a tree, and registration only one
with the wanted hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ccstore.codec.compression import Readable, decompressed
from ccstore.codec.narinfo import NarInfo
from ccstore.errors import CcError
from ccstore.ports import BinaryCache, Cancel, RemoteFile

_SLACK = 1 << 20  # bytes that a compression may add to what cannot be compressed, beside 1 %


@contextmanager
def received(
    cache: BinaryCache,
    found: NarInfo,
    partials: Path,
    report: Callable[[int, int | None], None],
    cancel: Cancel,
) -> Iterator[Readable]:
    """The NAR of an object, to be read in the block; that it is the right one is for the block to find out.

    Unfinished downloads are kept below `partials`, and go once the block ends well or says that the content is wrong.
    Raises what the cache raises; reading raises `nar-invalid` too.
    """
    most = found.object.nar_size + found.object.nar_size // 100 + _SLACK
    file = RemoteFile(found.url, found.file_size, found.file_hash, most)
    with cache.download(file, partials / partial_name(cache, found), report) as stream:
        yield _Bounded(decompressed(stream, found.compression), found.object.nar_size, cancel)


def partial_name(cache: BinaryCache, found: NarInfo) -> str:
    """Where an unfinished download of this very file is kept."""
    text = f"{cache.url}\n{found.url}\n{found.file_hash}\n{found.object.path}"
    return f"nar-{found.object.path.hash}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


class _Bounded:
    """A stream that is as long as was said, or fails."""

    def __init__(self, stream: Readable, size: int, cancel: Cancel) -> None:
        self._stream, self._left, self._cancel = stream, size, cancel

    def read(self, size: int, /) -> bytes:
        if self._cancel.cancelled:
            raise CcError("interrupted", "the substitution was interrupted")
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise CcError(
                "nar-invalid",
                "it is longer than was said",
                hint="`ccstore cache push --force` puts it there again",
            )
        return data
