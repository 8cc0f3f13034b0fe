"""Writes the image that a place of blobs has under a digest as a canonical layout (see ccstore.codec.oci)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ccstore.codec.oci import (
    LAYOUT_FILE,
    MAX_MANIFEST,
    Descriptor,
    Manifest,
    blob_path,
    choose,
    index_json,
    parse_config,
    parse_index,
    parse_manifest,
)
from ccstore.errors import CcError
from ccstore.model.hashes import Sha256
from ccstore.transfer.partial import disk_errors

_NESTING = 3  # an index of indexes is allowed; nobody has more than one level


class Blobs(Protocol):
    """A place that has blobs by digest. Both methods check the content and raise CcError."""

    def manifest(self, digest: Sha256, size: int | None) -> bytes:
        """A manifest or an index, at most MAX_MANIFEST bytes."""

    def collect(self, blobs: list[Descriptor], target: Callable[[Sha256], Path]) -> None:
        """Puts each blob at its place."""


def write_image(blobs: Blobs, digest: Sha256, label: str, to: Path) -> None:
    """Writes the image that the manifest or index `digest` describes to the new folder `to`."""
    descriptor, data = _find_manifest(blobs, digest, label)
    manifest = parse_manifest(data, label)
    with disk_errors(to):
        blob_path(to, digest).parent.mkdir(parents=True)
        blob_path(to, descriptor.digest).write_bytes(data)
    blobs.collect(manifest.blobs(), lambda each: blob_path(to, each))
    check_config(manifest, to, label)
    finish_layout(to, descriptor)


def _find_manifest(blobs: Blobs, digest: Sha256, label: str) -> tuple[Descriptor, bytes]:
    size: int | None = None
    for _ in range(_NESTING):
        data = blobs.manifest(digest, size)
        entries = parse_index(data, label)
        if entries is None:
            media_type = parse_manifest(data, label).media_type
            return Descriptor(media_type, digest, len(data)), data
        chosen = choose(entries, label)
        digest, size = chosen.digest, chosen.size
        if size > MAX_MANIFEST:
            raise CcError(
                "image-invalid", f"{label}: its manifest has {size} bytes", hint="4 MiB is the most"
            )
    raise CcError(
        "image-invalid", f"{label}: its indexes are nested too deeply", hint="pin the digest of the image"
    )


def check_config(manifest: Manifest, layout: Path, label: str) -> None:
    """Raises `platform-missing` or `image-invalid` unless the config is of an image that we can use."""
    path = blob_path(layout, manifest.config.digest)
    if manifest.config.size > MAX_MANIFEST:
        raise CcError(
            "image-invalid", f"{label}: its config has {manifest.config.size} bytes", hint="4 MiB is the most"
        )
    layers = len(parse_config(path.read_bytes(), label))
    if layers != len(manifest.layers):
        raise CcError(
            "image-invalid",
            f"{label}: its config speaks of {layers} layers, its manifest of {len(manifest.layers)}",
            hint="the image is damaged",
        )


def finish_layout(layout: Path, manifest: Descriptor) -> None:
    """Writes what makes a folder of blobs a layout."""
    with disk_errors(layout):
        (layout / "oci-layout").write_bytes(LAYOUT_FILE)
        (layout / "index.json").write_bytes(index_json(manifest))


def wrong_hash(label: str, wanted: Sha256, got: Sha256) -> CcError:
    return CcError(
        "hash-mismatch",
        f"{label}: a blob is not what its digest says",
        hint="the image is damaged where it lies; pull or write it anew",
        details=(f"wanted sha256:{wanted.hex}", f"got    sha256:{got.hex}"),
    )
