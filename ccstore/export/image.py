"""An image to be exported: a canonical OCI layout in the store, and the names that it gets elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccstore.codec.oci import (
    Descriptor,
    Manifest,
    Reference,
    blob_path,
    parse_config,
    parse_index,
    parse_manifest,
)
from ccstore.errors import CcError
from ccstore.model.hashes import Sha256

VERSION = "org.opencontainers.image.version"
HASH_DIGITS = 12
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Image:
    """The one image of the layout `folder`; `labels` are those of its config."""

    folder: Path
    descriptor: Descriptor
    manifest: Manifest
    labels: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path, label: str) -> Image:
        """`label` names it in messages. Raises `not-an-image` for what is no layout, `image-invalid` if damaged."""
        try:
            index = (folder / "index.json").read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise CcError(
                "not-an-image",
                f"{label} is no image",
                hint="export a kernel, a guest or a fetched image, or use --to tar or directory",
            ) from error
        entries = parse_index(index, label)
        if not entries or len(entries) != 1:
            raise _damaged(label, "its index.json names more or less than one image")
        [descriptor] = entries
        manifest = parse_manifest(_blob(folder, descriptor, label), label)
        config = _blob(folder, manifest.config, label)
        parse_config(config, label)
        for layer in manifest.layers:
            if not blob_path(folder, layer.digest).is_file():
                raise _damaged(label, f"it lacks the layer sha256:{layer.digest.hex}")
        return cls(folder, descriptor, manifest, _labels(json.loads(config)))

    @property
    def digest(self) -> str:
        return f"sha256:{self.descriptor.digest.hex}"

    def blobs(self) -> list[Descriptor]:
        """Config and layers, each once, without the manifest."""
        return self.manifest.blobs()

    def path(self, blob: Descriptor) -> Path:
        return blob_path(self.folder, blob.digest)


def _blob(folder: Path, descriptor: Descriptor, label: str) -> bytes:
    """A small blob of the layout, checked."""
    try:
        data = blob_path(folder, descriptor.digest).read_bytes()
    except OSError as error:
        raise _damaged(label, f"it lacks the blob sha256:{descriptor.digest.hex}") from error
    if Sha256.of(data) != descriptor.digest:
        raise _damaged(label, f"blob sha256:{descriptor.digest.hex} has another hash")
    return data


def _labels(config: Any) -> dict[str, str]:
    inner = config.get("config")
    labels = inner.get("Labels") if isinstance(inner, dict) else None
    return {str(key): str(text) for key, text in labels.items()} if isinstance(labels, dict) else {}


def _damaged(label: str, what: str) -> CcError:
    return CcError("image-invalid", f"{label}: {what}", hint="`ccstore verify` finds damaged objects")


def names(image: Image, recipe: str, wanted: Sequence[str]) -> list[Reference]:
    """The names that `image` gets: the `--tag`s, or `recipe` where there are none.

    In a tag `{version}` is the kernel's version, `{series}` that version without its last number (`6.1.x`), `{hash}`
    the first 12 digits of the image's digest. One without a tag gets `{version}-{hash}` and `{series}`, or `{hash}`
    and `latest` where the image has no version. Raises `usage`.
    """
    fields = _fields(image)
    found = [name for text in wanted or [recipe] for name in _tagged(text, fields)]
    return list(dict.fromkeys(found))


def _fields(image: Image) -> dict[str, str]:
    fields = {"hash": image.descriptor.digest.hex[:HASH_DIGITS]}
    if version := image.labels.get(VERSION):
        fields |= {"version": version, "series": f"{version.rpartition('.')[0] or version}.x"}
    return fields


def _tagged(text: str, fields: Mapping[str, str]) -> Iterator[Reference]:
    name = _parse(_PLACEHOLDER.sub(lambda match: _value(match[1], fields, text), text), text)
    if name.tag:
        yield name
        return
    for tag in ("{version}-{hash}", "{series}") if "version" in fields else ("{hash}", "latest"):
        yield _parse(f"{text}:{tag.format_map(fields)}", text)


def _value(key: str, fields: Mapping[str, str], text: str) -> str:
    if key not in fields:
        known = ", ".join(f"{{{each}}}" for each in sorted(fields))
        raise CcError("usage", f"--tag {text}: there is no {{{key}}} here", hint=f"there is {known}")
    return fields[key]


def _parse(name: str, text: str) -> Reference:
    try:
        found = Reference.parse(name)
    except ValueError as error:
        raise CcError("usage", f"--tag {text}: {error}", hint="a tag is [REGISTRY/]NAME[:TAG]") from error
    if found.place != "registry" or found.digest:
        raise CcError("usage", f"--tag {text}: a new name has no digest and no `oci:`", hint="write NAME:TAG")
    return found


def familiar(name: Reference) -> str:
    """The name as Docker shows it: without `docker.io/library/`."""
    text = f"{name.registry}/{name.repository}".removeprefix("docker.io/").removeprefix("library/")
    return f"{text}:{name.tag}"
