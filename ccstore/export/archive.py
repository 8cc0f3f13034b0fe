"""Tar archives: of any object, and of an image as OCI layout that `docker load` reads too.

The image's archive is an OCI image layout (`oci-layout`, `index.json`, `blobs/`) with Docker's `manifest.json`
beside it, as `docker save` writes both: older Dockers read one, newer ones and everybody else the other. Names are in
annotations of `index.json` (org.opencontainers.image.ref.name; io.containerd.image.name, which containerd wants).
All archives are sorted, owned by root, of 1970-01-01 00:00:01.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from ccstore.codec import tar
from ccstore.codec.oci import LAYOUT_FILE, OCI_INDEX, Reference, canonical_json
from ccstore.export.image import Image, familiar
from ccstore.ports import Tree


def image_archive(image: Image, names: list[Reference]) -> Iterator[bytes]:
    """The archive of an image, in chunks."""
    paths = {each.digest.hex: image.path(each) for each in (image.descriptor, *image.blobs())}
    yield tar.folder("blobs") + tar.folder("blobs/sha256")
    for name, path in sorted(paths.items()):
        yield from _file(f"blobs/sha256/{name}", path)
    texts = {
        "index.json": named_index(image, names),
        "manifest.json": _docker_manifest(image, names),
        "oci-layout": LAYOUT_FILE,
    }
    for name, data in sorted(texts.items()):
        yield tar.text(name, data)
    yield tar.END


def named_index(image: Image, names: list[Reference]) -> bytes:
    """An `index.json` with the image once for each name."""
    entry = image.descriptor.value()
    named = [
        {
            **entry,
            "annotations": {
                "io.containerd.image.name": f"{each.registry}/{each.repository}:{each.tag}",
                "org.opencontainers.image.ref.name": each.tag,
            },
        }
        for each in names
    ]
    return canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": named or [entry]})


def _docker_manifest(image: Image, names: list[Reference]) -> bytes:
    entry = {
        "Config": f"blobs/sha256/{image.manifest.config.digest.hex}",
        "RepoTags": [familiar(each) for each in names],
        "Layers": [f"blobs/sha256/{each.digest.hex}" for each in image.manifest.layers],
    }
    return canonical_json([entry])


def tree_archive(tree: Tree, name: str) -> Iterator[bytes]:
    """The tar of an object: what is in a folder, or the one file or link as `name`."""
    for entry in tree.entries():
        path = entry.path or name
        if entry.type == "directory":
            if entry.path:
                yield tar.folder(path)
        elif entry.type == "symlink":
            yield tar.symlink(path, entry.target)
        else:
            yield from _file(path, tree.path / entry.path, executable=entry.executable)
    yield tar.END


def write(chunks: Iterable[bytes], to: BinaryIO) -> None:
    for chunk in chunks:
        to.write(chunk)


def _file(name: str, path: Path, *, executable: bool = False) -> Iterator[bytes]:
    with path.open("rb") as content:
        yield from tar.file(name, content, path.stat().st_size, 0o755 if executable else 0o644)
