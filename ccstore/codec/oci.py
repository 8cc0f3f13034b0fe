"""OCI images: references, descriptors and manifests, and the one layout that each image has in the store.

Formats: OCI image specification 1.1 (manifest, index, image layout) and Docker's image manifest version 2,
schema 2, which differs in its media types only. The canonical layout of an image is a folder with `oci-layout`,
`index.json` (one descriptor, without names or annotations) and `blobs/sha256/<hex>` of the manifest, its config
and its layers, so it depends on the image alone and not on where the image was found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ccstore.errors import CcError
from ccstore.model.hashes import Sha256

ARCHITECTURE, SYSTEM = "amd64", "linux"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
LAYER_TYPES = frozenset(
    {
        OCI_LAYER,
        OCI_LAYER + "+gzip",
        OCI_LAYER + "+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
    }
)
MAX_MANIFEST = 4 << 20  # bytes, what the distribution specification lets a registry refuse above
LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'
DOCKER_HUB = "docker.io"

Place = Literal["registry", "layout", "daemon"]

_DIGEST = re.compile(r"(?P<name>.*)@sha256:(?P<digest>[0-9a-f]{64})", re.DOTALL)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\])(?::\d{1,5})?"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """The name of an image.

    `registry/repository[:tag]` in a registry (`docker.io` when none is given), `layout` the folder as it is
    written, or a repository of the Docker daemon. `digest` is the manifest's, the index's, or for a daemon the
    image id; a reference without one names a moving thing.
    """

    place: Place
    registry: str = ""
    repository: str = ""
    tag: str | None = None
    digest: Sha256 | None = None
    layout: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Reads `[docker://]NAME[:TAG][@sha256:HEX]`, `oci:DIR[…]`, `docker-daemon:NAME[…]`; raises ValueError."""
        digest, name = None, text
        if "@" in text:
            match = _DIGEST.fullmatch(text)
            if not match:
                raise ValueError(f"{text!r}: after @ comes sha256: and 64 hexadecimal digits")
            name, digest = match["name"], Sha256.parse(match["digest"])
        if name.startswith("oci:"):
            return _layout_reference(name.removeprefix("oci:"), digest)
        if name.startswith("docker-daemon:"):
            repository, tag = _split_tag(name.removeprefix("docker-daemon:"))
            return cls("daemon", repository=repository, tag=tag, digest=digest)
        repository, tag = _split_tag(name.removeprefix("docker://"))
        registry, repository = _split_registry(repository)
        return cls("registry", registry, _checked_repository(repository), tag, digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@sha256:{self.digest.hex}" if self.digest else ""
        if self.place == "layout":
            return f"oci:{self.layout}{tag}{digest}"
        if self.place == "daemon":
            return f"docker-daemon:{self.repository}{tag}{digest}"
        return f"{self.registry}/{self.repository}{tag}{digest}"


def _layout_reference(name: str, digest: Sha256 | None) -> Reference:
    folder, tag = _split_tag(name)
    if not folder:
        raise ValueError("oci: wants the folder of an image layout")
    return Reference("layout", tag=tag, digest=digest, layout=folder)


def _split_tag(name: str) -> tuple[str, str | None]:
    """A name and its tag: what follows a colon, unless that is a port (a path follows it)."""
    head, colon, tail = name.rpartition(":")
    if not colon or "/" in tail or tail.endswith("]"):
        return name, None
    if not _TAG.fullmatch(tail):
        raise ValueError(f"{tail!r} is no tag: letters, digits, _ . - are, at most 128")
    return head, tail


def _split_registry(name: str) -> tuple[str, str]:
    """Registry and repository: as Docker has it, a host has a dot or a port, or is localhost."""
    first, slash, rest = name.partition("/")
    if not slash or not (set(first) & {".", ":"} or first == "localhost"):
        return DOCKER_HUB, name if slash else f"library/{name}"
    if not _HOST.fullmatch(first):
        raise ValueError(f"{first!r} is no registry: a host name with an optional port is")
    if first in ("index.docker.io", DOCKER_HUB):
        return DOCKER_HUB, rest if "/" in rest else f"library/{rest}"
    return first, rest


def _checked_repository(repository: str) -> str:
    if not _REPOSITORY.fullmatch(repository):
        raise ValueError(
            f"{repository!r} is no name of an image: small letters and digits, parts joined by . _ - / are"
        )
    return repository


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to a blob; `size` in bytes. `platform` is `os/architecture` of an entry of an index, or ""."""

    media_type: str
    digest: Sha256
    size: int
    platform: str = ""

    def value(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": f"sha256:{self.digest.hex}", "size": self.size}


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest: the blobs that an image consists of, lowest layer first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]

    def blobs(self) -> list[Descriptor]:
        """Config and layers, each blob once."""
        return list({each.digest: each for each in (self.config, *self.layers)}.values())


def canonical_json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_index(data: bytes, label: str) -> tuple[Descriptor, ...] | None:
    """The entries of an index, or None if `data` is an image manifest. Raises `image-invalid`."""
    value = _object(data, label)
    if _media_type(value) not in INDEX_TYPES:
        return None
    return tuple(_descriptor(each, label) for each in _list(value, "manifests", label))


def choose(entries: Iterable[Descriptor], label: str) -> Descriptor:
    """The first entry of an index for linux/amd64. Raises `platform-missing`."""
    entries = tuple(entries)
    wanted = f"{SYSTEM}/{ARCHITECTURE}"
    for each in entries:
        if each.platform == wanted and each.media_type in (*MANIFEST_TYPES, *INDEX_TYPES):
            return each
    there = sorted({each.platform for each in entries if each.platform} - {"unknown/unknown"})
    raise CcError(
        "platform-missing",
        f"{label} has no image for {wanted}",
        hint="pin the digest of an image that has one",
        details=(f"it is for {', '.join(there) or 'nothing that it names'}",),
    )


def parse_manifest(data: bytes, label: str) -> Manifest:
    """Raises `image-invalid` for what is no image manifest, or one whose parts cannot be had or unpacked."""
    value = _object(data, label)
    media_type = _media_type(value)
    if media_type not in MANIFEST_TYPES:
        raise _invalid(
            label, f"its manifest is of type {media_type or 'unknown'}", "only OCI and Docker v2 schema 2 are"
        )
    manifest = Manifest(
        media_type,
        _descriptor(value.get("config"), label),
        tuple(_descriptor(each, label) for each in _list(value, "layers", label)),
    )
    for layer in manifest.layers:
        if layer.media_type not in LAYER_TYPES:
            raise _invalid(
                label,
                f"a layer is of type {layer.media_type}",
                "it is no file system layer that anyone may copy",
            )
    return manifest


def parse_config(data: bytes, label: str) -> tuple[Sha256, ...]:
    """The diff ids of an image's config: the SHA-256 of each uncompressed layer. Raises as `parse_manifest`."""
    value = _object(data, label)
    platform = f"{value.get('os')}/{value.get('architecture')}"
    if platform != f"{SYSTEM}/{ARCHITECTURE}":
        raise CcError(
            "platform-missing",
            f"{label} is for {platform}, not for {SYSTEM}/{ARCHITECTURE}",
            hint="pin the digest of an image for that platform",
        )
    rootfs = value.get("rootfs")
    if not isinstance(rootfs, dict):
        raise _invalid(label, "its config has no rootfs", "it is no container image")
    return tuple(parse_digest(each, label) for each in _list(rootfs, "diff_ids", label))


def index_json(manifest: Descriptor) -> bytes:
    """The canonical `index.json` of a layout with this one image."""
    platform = {"architecture": ARCHITECTURE, "os": SYSTEM}
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [{**manifest.value(), "platform": platform}],
        }
    )


def blob_path(layout: Path, digest: Sha256) -> Path:
    return layout / "blobs" / "sha256" / digest.hex


def parse_digest(value: object, label: str) -> Sha256:
    match = re.fullmatch(r"sha256:([0-9a-f]{64})", value) if isinstance(value, str) else None
    if not match:
        raise _invalid(label, f"{value!r} is no digest", "only sha256 is supported")
    return Sha256.parse(match[1])


def _descriptor(value: object, label: str) -> Descriptor:
    if not isinstance(value, dict):
        raise _invalid(label, "a descriptor is missing")
    size, media_type = value.get("size"), value.get("mediaType")
    if type(size) is not int or size < 0 or not isinstance(media_type, str):
        raise _invalid(label, "a descriptor lacks its size or type")
    platform = value.get("platform")
    text = f"{platform.get('os')}/{platform.get('architecture')}" if isinstance(platform, dict) else ""
    return Descriptor(media_type, parse_digest(value.get("digest"), label), size, text)


def _media_type(value: Mapping[str, Any]) -> str:
    """What the document says it is; OCI lets it say nothing, and then its fields tell."""
    found = value.get("mediaType")
    if isinstance(found, str):
        return found
    if "manifests" in value:
        return OCI_INDEX
    return OCI_MANIFEST if "config" in value and "layers" in value else ""


def _object(data: bytes, label: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _invalid(label, f"what describes it is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise _invalid(label, "what describes it is no JSON object")
    return value


def _list(value: Mapping[str, Any], key: str, label: str) -> list[Any]:
    found = value.get(key)
    if not isinstance(found, list):
        raise _invalid(label, f"it has no list of {key}")
    return found


def _invalid(label: str, what: str, hint: str = "the image is damaged, or no container image") -> CcError:
    return CcError("image-invalid", f"{label}: {what}", hint=hint)
