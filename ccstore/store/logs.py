"""Build logs: `logs/<derivation id>.zst`, one zstd stream each, also for builds that failed.

Every piece is flushed to the file as it comes, so a build that is still running can be read, and a crash keeps
what came before it; a reader takes a stream that just ends as the end of the log.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import zstandard

from ccstore.errors import CcError
from ccstore.store.failures import explained
from ccstore.store.layout import Layout

_BLOCK = 1 << 16


class LogWriter:
    """Made by `Logs.writer`; threads may share it."""

    def __init__(self, root: Path, file: BinaryIO) -> None:
        self._root = root
        self._file = file
        self._stream = zstandard.ZstdCompressor(level=3).compressobj()
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        """Appends `data`. Raises `disk-full`."""
        with self._lock, explained(self._root):
            packed = self._stream.compress(data)
            self._file.write(packed + self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))

    def close(self) -> None:
        with self._lock, explained(self._root):
            self._file.write(self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH))


class Logs:
    """The build logs of one store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def path(self, derivation_id: str) -> Path:
        return self._layout.log(derivation_id)

    @contextmanager
    def writer(self, derivation_id: str) -> Iterator[LogWriter]:
        """A new log, in the place of an older one. Raises `disk-full`, `read-only-store`."""
        with explained(self._layout.root):
            # a reader of the older log keeps its file
            self.path(derivation_id).unlink(missing_ok=True)
            file = self.path(derivation_id).open("xb", buffering=0)
        with file:
            log = LogWriter(self._layout.root, file)
            try:
                yield log
            finally:
                log.close()

    def read(self, derivation_id: str) -> Iterator[bytes]:
        """The log in pieces, as far as it goes. Raises `not-found`; `object-damaged` if it is no log."""
        try:
            file = self.path(derivation_id).open("rb")
        except FileNotFoundError as error:
            raise CcError(
                "not-found",
                f"there is no build log of {derivation_id}",
                hint="what was fetched or substituted was not built here",
            ) from error
        return _pieces(file)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        stream = zstandard.ZstdDecompressor().decompressobj()
        while packed := file.read(_BLOCK):
            try:
                data = stream.decompress(packed)
            except zstandard.ZstdError as error:
                raise CcError(
                    "object-damaged",
                    f"the log cannot be read: {error}",
                    where=str(file.name),
                    hint="remove that file; the next build writes a new one",
                ) from error
            if data:
                yield data
