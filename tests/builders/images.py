"""OCI layouts for tests, honest and hostile."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.builders.tars import Written, tar

Compress = Callable[[bytes], bytes]
TYPE = "application/vnd.oci.image."
MAGIC = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def plain(data: bytes) -> bytes:
    return data


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def put_blob(layout: Path, data: bytes, media_type: str = "") -> dict[str, Any]:
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    (blobs / digest_of(data).removeprefix("sha256:")).write_bytes(data)
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def _put_layer(layout: Path, data: bytes) -> dict[str, Any]:
    return put_blob(layout, data, f"{TYPE}layer.v1.tar{MAGIC.get(data[:2], '')}")


def write_layout(
    layout: Path,
    layers: Iterable[bytes],
    config: Mapping[str, Any] | None = None,
    *,
    compress: Compress = plain,
    diff_ids: list[str] | None = None,
) -> Path:
    """An image of `layers` (tar archives); `diff_ids` are right unless given."""
    archives = list(layers)
    found = [digest_of(each) for each in archives] if diff_ids is None else diff_ids
    platform = {"os": "linux", "architecture": "amd64"}
    value = {**platform, "config": config or {}, "rootfs": {"type": "layers", "diff_ids": found}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{TYPE}manifest.v1+json",
        "config": put_blob(layout, json.dumps(value).encode(), f"{TYPE}config.v1+json"),
        "layers": [_put_layer(layout, compress(each)) for each in archives],
    }
    described = put_blob(layout, json.dumps(manifest).encode(), f"{TYPE}manifest.v1+json")
    index = {"schemaVersion": 2, "manifests": [described]}
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (layout / "index.json").write_text(json.dumps(index))
    return layout


def image(layout: Path, *layers: Iterable[Written], **more: Any) -> Path:
    """An image whose layers have these entries."""
    return write_layout(layout, [tar(each) for each in layers], **more)
