"""Fetches a container image by digest, from a registry, an image layout or a Docker daemon, as a canonical layout.

Whichever of them it comes from, every blob is checked against the digest that names it, from the pinned one
down, and what is written depends on that digest alone (see ccstore.codec.oci). Of an index the image for
linux/amd64 is taken. A Docker daemon knows images by the digest of their config, which names the uncompressed
layers; the manifest is then ours.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ccstore.codec.oci import Reference
from ccstore.errors import CcError
from ccstore.events import Sink
from ccstore.fetch.oci_image import write_image
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import OciSource
from ccstore.ports import Cancel
from ccstore.transfer.patience import PATIENT, Patience


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
        raise CcError(
            "recipe-invalid",
            f"{label}: an image is identified by the digest in its reference",
            hint="name it as registry/name@sha256:… or oci:DIR@sha256:…",
        )
    if reference.place == "layout" and source.layout is None:
        raise CcError(
            "recipe-invalid",
            f"{label}: {reference} has no folder",
            hint="name it as oci:DIR@sha256:…, DIR being a folder with an index.json",
        )
    return reference
