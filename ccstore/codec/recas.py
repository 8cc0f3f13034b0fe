"""Blobs to and from the content-addressed storage of a remote execution service.

Small blobs travel many at once, within the limit that the server names; larger ones alone, as a stream. Both are
compressed with zstd where the server takes it. What comes back is believed only if its digest is right.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import zstandard

from ccstore.codec.reapi import IDENTITY, SHA256, ZSTD, message
from ccstore.codec.reclient import Client
from ccstore.errors import CcError

Source = Callable[[], BinaryIO] | bytes

_MOST = 4 << 20  # bytes of a message, which is gRPC's own limit
_ROOM = 64 << 10  # bytes of a message that are no data
_OVERHEAD = 128  # bytes that name one blob in a message
_DIGESTS = 10_000  # in one question
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Digest:
    """SHA-256 (hexadecimal) and size in bytes of a blob."""

    hash: str
    size: int

    @classmethod
    def of(cls, data: bytes) -> Digest:
        return cls(hashlib.sha256(data).hexdigest(), len(data))

    @classmethod
    def read(cls, found: Any) -> Digest:
        return cls(found.hash, found.size_bytes)

    def write(self, to: Any) -> None:
        to.hash, to.size_bytes = self.hash, self.size


class LostError(CcError):
    """The server has a blob no longer."""

    def __init__(self, client: Client, digest: Digest) -> None:
        message_ = f"{client.remote.url} has lost a blob: {digest.hash}"
        super().__init__("remote-failed", message_, hint="run the same command again")


class Storage:
    """The storage behind `client`, as its capabilities say. Raises `remote-unfit` for one without SHA-256."""

    def __init__(self, client: Client) -> None:
        self._client = client
        request = message("GetCapabilitiesRequest")(instance_name=client.instance)
        cache = client.call("capabilities", request).cache_capabilities
        if SHA256 not in cache.digest_functions:
            raise CcError("remote-unfit", f"{client.remote.url} does not speak SHA-256", hint="use another")
        limit = cache.max_batch_total_size_bytes or _MOST
        self._batch = min(limit, _MOST) - _ROOM
        self._zstd = ZSTD in cache.supported_compressors
        self._zstd_batch = self._zstd and ZSTD in cache.supported_batch_update_compressors

    def upload(self, sources: Mapping[Digest, Source], check: Callable[[], None]) -> None:
        """Sends what the server has not got; `check` is called in between, and may raise."""
        batch: list[tuple[Digest, bytes]] = []
        room = self._batch
        for digest in self.missing(list(sources)):
            check()
            source = sources[digest]
            if digest.size > self._batch // 2:
                self.send(digest, source, check, self._zstd)
                continue
            if digest.size + _OVERHEAD > room:
                self._send_batch(batch)
                batch, room = [], self._batch
            batch.append((digest, _bytes(source)))
            room -= digest.size + _OVERHEAD
        self._send_batch(batch)

    def read(self, digest: Digest) -> bytes:
        """One blob, checked. Raises LostError and `hash-mismatch`, as all that reads."""
        found = io.BytesIO()
        self.read_to(digest, found)
        return found.getvalue()

    def read_many(
        self, wanted: dict[Digest, list[Callable[[], BinaryIO]]], check: Callable[[], None]
    ) -> None:
        """Writes each blob to the files that are to have it."""
        batch: list[Digest] = []
        room = self._batch
        for digest in wanted:
            check()
            if digest.size > self._batch // 2:
                for place in wanted[digest]:
                    with place() as file:
                        self.read_to(digest, file)
                continue
            if digest.size + _OVERHEAD > room:
                self._read_batch(batch, wanted)
                batch, room = [], self._batch
            batch.append(digest)
            room -= digest.size + _OVERHEAD
        self._read_batch(batch, wanted)

    def read_to(self, digest: Digest, file: BinaryIO) -> None:
        if not digest.size:
            return
        start = file.tell()

        def attempt() -> None:
            file.seek(start)
            file.truncate()
            found, size = hashlib.sha256(), 0
            for chunk in self._found(digest):
                found.update(chunk)
                size += len(chunk)
                if size > digest.size:
                    break
                file.write(chunk)
            _check(digest, found.hexdigest(), size)

        self._client.retried(attempt)

    def missing(self, digests: list[Digest]) -> Iterator[Digest]:
        for start in range(0, len(digests), _DIGESTS):
            request = message("FindMissingBlobsRequest")(instance_name=self._client.instance)
            for digest in digests[start : start + _DIGESTS]:
                digest.write(request.blob_digests.add())
            answer = self._client.call("find_missing", request)
            yield from map(Digest.read, answer.missing_blob_digests)

    def _send_batch(self, batch: list[tuple[Digest, bytes]]) -> None:
        if not batch:
            return
        request = message("BatchUpdateBlobsRequest")(instance_name=self._client.instance)
        for digest, data in batch:
            entry = request.requests.add(data=_packed(data) if self._zstd_batch else data)
            entry.compressor = ZSTD if self._zstd_batch else IDENTITY
            digest.write(entry.digest)
        for each in self._client.call("batch_update", request).responses:
            if each.status.code:
                raise _refused(self._client, each.status)

    def send(
        self, digest: Digest, source: Source, check: Callable[[], None], compressed: bool = False
    ) -> None:
        """Sends one blob as a stream."""
        kind = "compressed-blobs/zstd" if compressed else "blobs"
        name = f"uploads/{uuid.uuid4()}/{kind}/{digest.hash}/{digest.size}"

        def requests() -> Iterator[Any]:
            make, offset = message("google.bytestream.WriteRequest"), 0
            for chunk in _pieces(source, compressed):
                check()
                yield make(resource_name=self._named(name), write_offset=offset, data=chunk)
                offset += len(chunk)
            yield make(resource_name=self._named(name), write_offset=offset, finish_write=True)

        self._client.retried(lambda: self._client.send("write", requests()))

    def _read_batch(self, batch: list[Digest], wanted: dict[Digest, list[Callable[[], BinaryIO]]]) -> None:
        if not batch:
            return
        request = message("BatchReadBlobsRequest")(instance_name=self._client.instance)
        for digest in batch:
            digest.write(request.digests.add())
        got = {Digest.read(each.digest): each for each in self._client.call("batch_read", request).responses}
        for digest in batch:
            each = got.get(digest)
            if each is None or each.status.code:
                raise LostError(self._client, digest)
            _check(digest, hashlib.sha256(each.data).hexdigest(), len(each.data))
            for place in wanted[digest]:
                with place() as file:
                    file.write(each.data)

    def _found(self, digest: Digest) -> Iterator[bytes]:
        with self._finding(digest):
            yield from self._stream(digest)

    def read_from(self, digest: Digest, offset: int) -> Iterator[bytes]:
        """What the server has of a blob from byte `offset` on, once, unchecked and uncompressed on the way.

        Raises LostError, and grpc.RpcError also in the middle.
        """
        name = self._named(f"blobs/{digest.hash}/{digest.size}")
        asked = message("google.bytestream.ReadRequest")(resource_name=name, read_offset=offset)
        with self._finding(digest):
            for each in self._client.stream("read", asked):
                yield each.data

    @contextmanager
    def _finding(self, digest: Digest) -> Iterator[None]:
        import grpc

        try:
            yield
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                raise LostError(self._client, digest) from error
            raise

    def _stream(self, digest: Digest) -> Iterator[bytes]:
        kind = "compressed-blobs/zstd" if self._zstd else "blobs"
        name = self._named(f"{kind}/{digest.hash}/{digest.size}")
        answers = self._client.stream("read", message("google.bytestream.ReadRequest")(resource_name=name))
        if not self._zstd:
            return (each.data for each in answers)
        return _unpacked(digest, (each.data for each in answers))

    def _named(self, name: str) -> str:
        return f"{self._client.instance}/{name}" if self._client.instance else name


def _bytes(source: Source) -> bytes:
    if isinstance(source, bytes):
        return source
    with source() as file:
        return file.read()


def _packed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(data)


def _pieces(source: Source, compressed: bool) -> Iterable[bytes]:
    with io.BytesIO(source) if isinstance(source, bytes) else source() as file:
        if compressed:
            yield from zstandard.ZstdCompressor(level=1).read_to_iter(file, write_size=_CHUNK)
            return
        while chunk := file.read(_CHUNK):
            yield chunk


def _unpacked(digest: Digest, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Never more of it than was promised, and never much at once, whatever `pieces` unpack to."""
    joined: Any = _Joined(pieces)  # all of a file that zstandard wants
    reader = zstandard.ZstdDecompressor().stream_reader(joined, read_across_frames=True)
    size = 0
    try:
        while piece := reader.read(_CHUNK):
            size += len(piece)
            if size > digest.size:
                raise _other(digest, "more than that")
            yield piece
    except zstandard.ZstdError as error:
        raise _other(digest, f"what is no zstd: {error}") from error


class _Joined:
    """Pieces as a file, as zstandard reads one."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = filter(None, pieces)
        self._left = b""

    def read(self, size: int) -> bytes:
        piece = self._left or next(self._pieces, b"")
        self._left = piece[size:]
        return piece[:size]


def _check(digest: Digest, found: str, size: int) -> None:
    if (found, size) != (digest.hash, digest.size):
        raise _other(digest, f"{found}, {size} bytes")


def _other(digest: Digest, found: str) -> CcError:
    return CcError(
        "hash-mismatch",
        "the remote execution service returned something else than it promised",
        details=(f"wanted {digest.hash}, {digest.size} bytes", f"got    {found}"),
        hint="its storage is damaged, or lies: use another service",
    )


def _refused(client: Client, status: Any) -> CcError:
    return CcError(
        "remote-failed", f"{client.remote.url} refuses a blob: {status.message}", hint="look at its log"
    )
