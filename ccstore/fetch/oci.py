"""Fetches a container image by digest, from a registry, an image layout or a Docker daemon, as a canonical layout.

Whichever of them it comes from, every blob is checked against the digest that names it, from the pinned one
down, and what is written depends on that digest alone (see ccstore.codec.oci). Of an index the image for
linux/amd64 is taken. A Docker daemon knows images by the digest of their config, which names the uncompressed
layers; the manifest is then ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from ccstore.codec.oci import (
    LAYOUT_FILE,
    MAX_MANIFEST,
    Descriptor,
    Manifest,
    Reference,
    blob_path,
    choose,
    index_json,
    parse_config,
    parse_index,
    parse_manifest,
)
from ccstore.errors import CcError
from ccstore.events import Sink
from ccstore.fetch.partial import disk_errors
from ccstore.fetch.patience import PATIENT, Patience
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import OciSource
from ccstore.model.hashes import Sha256
from ccstore.ports import Cancel

_NESTING = 3  # an index of indexes is allowed; nobody has more than one level


class Blobs(Protocol):
    """A place that has blobs by digest. Both methods check the content and raise CcError."""

    def manifest(self, digest: Sha256, size: int | None) -> bytes:
        """A manifest or an index, at most MAX_MANIFEST bytes."""

    def collect(self, blobs: list[Descriptor], target: Callable[[Sha256], Path]) -> None:
        """Puts each blob at its place."""


def fetch_oci(
    source: OciSource,
    fixed: FixedOutput,
    to: Path,
    partials: Path,
    scratch: Path,
    label: str,
    sink: Sink,
    cancel: Cancel,
    *,
    environ: Mapping[str, str] = os.environ,
    patience: Patience = PATIENT,
) -> None:
    """Writes the layout of the image with the digest of `fixed` to the new folder `to`.

    `partials` keeps unfinished blobs under names that begin with the derivation's id; `scratch` is an existing
    folder to work in. Raises `hash-mismatch`, `image-invalid`, `image-missing`, `platform-missing`,
    `auth-needed`, `no-docker`, `unreachable`, `fetch-stalled`, `fetch-too-large`, `disk-full`, `interrupted`,
    `recipe-invalid`.
    """
    reference = _reference(source, fixed, label)
    if reference.place == "registry":
        from ccstore.fetch.oci_registry import open_registry

        with open_registry(reference, fixed.id, partials, label, sink, cancel, environ, patience) as blobs:
            write_image(blobs, fixed.sha256, str(reference), to)
    elif reference.place == "layout":
        from ccstore.fetch.oci_layout import Layout

        assert source.layout is not None
        write_image(Layout(source.layout, str(reference), cancel), fixed.sha256, str(reference), to)
    else:
        from ccstore.fetch.oci_daemon import fetch_daemon

        fetch_daemon(reference, to, scratch, label, sink, cancel, environ)


def _reference(source: OciSource, fixed: FixedOutput, label: str) -> Reference:
    try:
        reference = Reference.parse(source.reference)
    except ValueError as error:
        raise CcError(
            "recipe-invalid", f"{label}: {error}", hint="name an image as registry/name@sha256:…"
        ) from error
    if fixed.method != "oci" or reference.digest != fixed.sha256:
        raise CcError("recipe-invalid", f"{label}: an image is identified by the digest in its reference")
    if reference.place == "layout" and source.layout is None:
        raise CcError("recipe-invalid", f"{label}: {reference} has no folder")
    return reference


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
