"""The blobs of an OCI image: each is what its descriptor says, and a layer becomes a plain tar archive.

What an image may take of memory and disk is bounded (`Budget`), whatever it says of itself.

Source: OCI image specification 1.1 (descriptors, layers). Stdlib only inside the sandbox, with its gzip module and
the tools' zstd; elsewhere the package `zstandard` takes the place of that.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

MAX_BLOB = 16 << 30  # bytes
MAX_JSON = 4 << 20
CHUNK = 1 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ImageWrong(Exception):  # noqa: N818 (it says of an image what is so)
    """The image is not what it says, or not safe; `code` is the error's."""

    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(message)


@dataclass
class Budget:
    """What an image may still take: bytes of its layers, decompressed, and of the headers in them, and entries."""

    size: int = 16 << 30
    headers: int = 1 << 30
    entries: int = 1_000_000

    def take(self, label: str, **amounts: int) -> None:
        """Raises ImageWrong if there is not as much."""
        for name, amount in amounts.items():
            left = getattr(self, name) - amount
            if left < 0:
                raise ImageWrong(
                    "archive-refused", f"{label} is refused: the image has too many {_TAKEN[name]}"
                )
            setattr(self, name, left)


_TAKEN = {"size": "bytes", "headers": "bytes of headers", "entries": "entries"}


def corrupt(message: str) -> NoReturn:
    raise ImageWrong("image-corrupt", f"the image is corrupt: {message}")


def read_json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_JSON:
        corrupt(f"{path.name} is larger than {MAX_JSON} bytes")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ImageWrong("image-corrupt", f"the image is corrupt: {path.name} is no JSON: {error}") from error
    if not isinstance(value, dict):
        corrupt(f"{path.name} is no mapping")
    return value


def find(layout: Path, descriptor: Any, most: int) -> Path:
    """The blob of a descriptor, its size and digest checked."""
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        corrupt(f"{digest!r} is no digest")
    path = layout / "blobs" / "sha256" / digest.removeprefix("sha256:")
    if not path.is_file():
        corrupt(f"the blob {digest} is missing")
    size = path.stat().st_size
    if size > most or size != descriptor.get("size", size):
        corrupt(f"the blob {digest} has {size} bytes, {descriptor.get('size')} are wanted")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if f"sha256:{found}" != digest:
        corrupt(f"the blob {digest} has the digest sha256:{found}")
    return path


class Layer:
    """The blob of a layer on its way to a plain archive."""

    def __init__(self, blob: Path, archive: Path, label: str, budget: Budget) -> None:
        self._blob, self._archive, self._label, self._budget = blob, archive, label, budget

    def decompress(self, diff_id: object) -> None:
        try:
            digest = self._decompressed()
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ImageWrong("image-corrupt", f"the image is corrupt: {self._label}: {error}") from error
        if digest != diff_id:
            corrupt(
                f"{self._label} has the content {digest}, the image's configuration wants {diff_id!r:.100}"
            )

    def _decompressed(self) -> str:
        with self._blob.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            if magic[:2] == b"\x1f\x8b":
                with gzip.open(file) as source:
                    return self._copy(source)
            return self._unzstd(file) if magic == b"\x28\xb5\x2f\xfd" else self._copy(file)

    def _copy(self, source: Any) -> str:
        """Copies what can be read from `source`; its digest."""
        digest = hashlib.sha256()
        with self._archive.open("wb") as sink:
            while chunk := source.read(CHUNK):
                self._budget.take(self._label, size=len(chunk))
                digest.update(chunk)
                sink.write(chunk)
        return f"sha256:{digest.hexdigest()}"

    def _unzstd(self, file: BinaryIO) -> str:
        try:
            import zstandard
        except ImportError:  # as in the sandbox
            return self._unzstd_by_tool()
        try:
            return self._copy(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
        except zstandard.ZstdError as error:
            raise ImageWrong("image-corrupt", f"the image is corrupt: {self._label}: {error}") from error

    def _unzstd_by_tool(self) -> str:
        argv = ["zstd", "-dcq", "--", str(self._blob)]
        try:
            process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        except FileNotFoundError as error:
            message = f"{self._label} is compressed by zstd, and there is no program zstd"
            raise ImageWrong("tool-missing", message) from error
        with process:
            assert process.stdout is not None
            digest = self._copy(process.stdout)
        if process.returncode:
            corrupt(f"{self._label}: zstd failed with exit status {process.returncode}")
        return digest
