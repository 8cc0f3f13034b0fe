"""The compressions that NARs have in binary caches: read all that Nix 2.8 writes but brotli and others that nobody
uses, write zstd, xz or none.

Reading is bounded: a piece that is asked for is never larger than asked, whatever the data says, and a stream that
wants more than 256 MiB of memory (zstd: a window of more than 128 MiB) is refused. That a stream ended too early is
for the reader of the NAR to notice.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from ccstore.errors import CcError

BLOCK = 1 << 18
MAX_WINDOW = 1 << 27
MAX_MEMORY = 1 << 28
# the end of a file's name, as Nix has it
SUFFIXES: Mapping[str, str] = {"zstd": ".nar.zst", "xz": ".nar.xz", "none": ".nar"}


class Readable(Protocol):
    """A stream as the NAR reader wants it: at most `size` bytes, none at its end."""

    def read(self, size: int, /) -> bytes: ...


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Plain:
    """The compression `none`."""

    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def compressor(method: str, level: int | None = None, threads: int = 0) -> Compressor:
    """Compresses one stream; `threads` work beside the caller (zstd only)."""
    if method == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(3 if level is None else level, threads=threads).compressobj()
    if method == "xz":
        return lzma.LZMACompressor(preset=6 if level is None else level)
    if method == "none":
        return _Plain()
    raise unsupported(method)


def decompressed(source: Readable, method: str) -> Readable:
    """A stream of what `source` holds, compressed by `method`. Its `read` raises CcError `nar-invalid`."""
    if method not in _READERS:
        raise unsupported(method)
    return _Reported(_READERS[method], source)


def unsupported(method: str) -> CcError:
    return CcError(
        "nar-invalid",
        f"the compression {method!r} is not known",
        hint=f"known are {', '.join(_READERS)}",
    )


class _Reported:
    """Turns what the libraries raise into one error."""

    def __init__(self, reader: Callable[[Any], Readable], source: Any) -> None:
        with _failures():
            self._stream = reader(source)

    def read(self, size: int, /) -> bytes:
        with _failures():
            return self._stream.read(size)


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (lzma.LZMAError, zlib.error, EOFError, ValueError) as error:
        raise _damaged(error) from error
    except OSError as error:
        if error.errno is not None:  # the disk's; bz2 and gzip have none
            raise
        raise _damaged(error) from error
    except Exception as error:
        import zstandard

        if not isinstance(error, zstandard.ZstdError):
            raise
        raise _damaged(error) from error


def _damaged(error: Exception) -> CcError:
    return CcError(
        "nar-invalid", f"the compressed file is damaged: {error}", hint="the cache has to get it anew"
    )


def _zstd(source: Any) -> Any:
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    return decompressor.stream_reader(source, read_size=BLOCK, read_across_frames=True, closefd=False)


def _bzip2(source: Any) -> Readable:
    import bz2

    return bz2.BZ2File(source)


def _gzip(source: Any) -> Readable:
    import gzip

    return gzip.GzipFile(fileobj=source)


class _Xz:
    """lzma.LZMAFile has no limit for memory."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._begin()

    def _begin(self) -> None:
        self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_MEMORY)

    def read(self, size: int, /) -> bytes:
        while True:
            data = b""
            if self._stream.eof:
                data = self._stream.unused_data or self._source.read(BLOCK)
                if not data:
                    return b""
                self._begin()
            elif self._stream.needs_input:
                data = self._source.read(BLOCK)
                if not data:
                    raise EOFError("it is cut short")
            if found := self._stream.decompress(data, size):
                return found


_READERS: Mapping[str, Callable[[Any], Readable]] = {
    "none": lambda source: source,
    "zstd": _zstd,
    "xz": _Xz,
    "bzip2": _bzip2,
    "gzip": _gzip,
}
