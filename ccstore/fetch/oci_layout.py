"""Blobs of an OCI image layout in a folder, or of files that are already known by their digest."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ccstore.codec.oci import MAX_MANIFEST, Descriptor, blob_path
from ccstore.errors import CcError
from ccstore.fetch.oci_image import wrong_hash
from ccstore.model.hashes import Sha256
from ccstore.ports import Cancel
from ccstore.transfer.attempt import TransferError, open_regular
from ccstore.transfer.partial import disk_errors
from ccstore.transfer.patience import check

_CHUNK = 1 << 20


class Layout:
    """The layout in `folder`; `label` names the image in messages."""

    def __init__(self, folder: Path, label: str, cancel: Cancel) -> None:
        self._folder, self._label, self._cancel = folder, label, cancel

    def manifest(self, digest: Sha256, size: int | None) -> bytes:
        data = io.BytesIO()
        self._copy(digest, MAX_MANIFEST if size is None else size, data)
        return data.getvalue()

    def collect(self, blobs: list[Descriptor], target: Callable[[Sha256], Path]) -> None:
        for blob in blobs:
            place = target(blob.digest)
            with disk_errors(place), place.open("wb") as file:
                self._copy(blob.digest, blob.size, file)

    def _copy(self, digest: Sha256, limit: int, to: BinaryIO) -> None:
        """Copies a blob of at most `limit` bytes."""
        seen, copied = hashlib.sha256(), 0
        with self._open(digest) as file:
            while chunk := file.read(_CHUNK):
                check(self._cancel, self._label)
                seen.update(chunk)
                copied += len(chunk)
                if copied > limit:
                    raise CcError(
                        "image-invalid",
                        f"{self._label}: blob sha256:{digest.hex} has more than {limit} bytes",
                        hint="the image is damaged",
                    )
                to.write(chunk)
        if (got := Sha256(seen.digest())) != digest:
            raise wrong_hash(self._label, digest, got)

    def _open(self, digest: Sha256) -> BinaryIO:
        path = blob_path(self._folder, digest)
        if not path.exists():
            raise CcError(
                "image-missing",
                f"{self._label}: there is no blob sha256:{digest.hex} in {self._folder}",
                hint=f"the digests of its images are in {self._folder / 'index.json'}",
            )
        try:
            return os.fdopen(open_regular(str(path)), "rb")
        except TransferError as error:
            raise CcError(
                "image-invalid",
                f"{self._label}: {path}: {error.reason}",
                hint="copy the layout there again: its blobs are plain files",
            ) from error
