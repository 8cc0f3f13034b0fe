"""An image of a Docker daemon, by its id, out of the archive that `docker save` also writes.

The archive has `manifest.json`, which names the file of the config and those of the layers, uncompressed. Where
they lie in it differs between versions of Docker, and a layer may be a link to another's, so names are only
followed inside the archive's own table, and no path of it ever reaches the disk. The id of an image is the digest
of its config; with Docker's containerd store it is that of its manifest or index, and the archive is an OCI layout.
"""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import queue
import shutil
import tarfile
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccstore.codec.engine import engine
from ccstore.codec.oci import (
    MAX_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Reference,
    blob_path,
    canonical_json,
    parse_config,
)
from ccstore.errors import CcError
from ccstore.events import Progressed, Sink
from ccstore.fetch.oci_image import finish_layout, write_image, wrong_hash
from ccstore.model.hashes import Sha256
from ccstore.ports import Cancel
from ccstore.transfer.partial import disk_errors
from ccstore.transfer.patience import check

_CHUNK = 1 << 20
_AHEAD = 4  # chunks
_LINKS = 8


@dataclass(slots=True)
class Archive:
    """The files of a saved image, spooled: by name and by digest."""

    names: dict[str, Path] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    digests: dict[Path, Sha256] = field(default_factory=dict)

    def find(self, name: str) -> Path | None:
        for _ in range(_LINKS):
            if name in self.names:
                return self.names[name]
            name = self.links.get(name, "")
        return None

    def by_digest(self, digest: Sha256) -> Path | None:
        return next((path for path, each in self.digests.items() if each == digest), None)


def fetch_daemon(
    reference: Reference,
    to: Path,
    scratch: Path,
    label: str,
    sink: Sink,
    cancel: Cancel,
    environ: Mapping[str, str],
) -> None:
    """Writes the layout of the image whose id is the reference's digest to the new folder `to`."""
    assert reference.digest
    with disk_errors(scratch):
        archive = _spool(_saved(reference, environ), scratch, label, sink, cancel, str(reference))
    listing = archive.names.get("manifest.json")
    if listing is None:
        raise _damaged(reference, "it has no manifest.json")
    config = archive.by_digest(reference.digest)
    if config is None:
        got = _named_config(archive, listing, reference)
        raise wrong_hash(f"{reference}, its config", reference.digest, archive.digests[got])
    if config == _named_config(archive, listing, reference):
        _write_saved(archive, listing, config, reference, to)
    else:
        write_image(_Spooled(archive, reference), reference.digest, str(reference), to)


def _saved(reference: Reference, environ: Mapping[str, str]) -> Generator[bytes, None, None]:
    """The archive of the image, as the daemon sends it. Raises `no-docker`, `image-missing`, `fetch-stalled`."""
    from docker.errors import ImageNotFound

    assert reference.digest
    image_id = f"sha256:{reference.digest.hex}"
    with engine(environ) as client:
        try:
            image = client.images.get(image_id)
        except ImageNotFound as error:
            raise CcError(
                "image-missing",
                f"the Docker daemon has no image {image_id}",
                hint=f"pull or build it; `docker images --no-trunc {reference.repository}` shows the ids",
            ) from error
        yield from image.save(chunk_size=_CHUNK)


def _read_ahead(chunks: Generator[bytes, None, None], label: str, cancel: Cancel) -> Iterator[bytes]:
    """`chunks`, read by another thread: Docker may be silent for long, and Ctrl-C does not wait for it."""
    found: queue.SimpleQueue[bytes | Exception | None] = queue.SimpleQueue()
    room, over = threading.Semaphore(_AHEAD), threading.Event()

    def read() -> None:
        try:
            with closing(chunks):
                for chunk in chunks:
                    found.put(chunk)
                    room.acquire()
                    if over.is_set():
                        return
            found.put(None)
        except Exception as error:
            found.put(error)

    threading.Thread(target=read, name=f"read {label}", daemon=True).start()
    forget = cancel.on_cancel(lambda: found.put(None))
    try:
        while (item := found.get()) is not None:
            check(cancel, label)
            if isinstance(item, Exception):
                raise item
            room.release()
            yield item
        check(cancel, label)
    finally:
        forget()
        over.set()
        room.release()


def _spool(
    chunks: Generator[bytes, None, None], scratch: Path, label: str, sink: Sink, cancel: Cancel, image: str
) -> Archive:
    """Writes the files of the archive into `scratch` under numbers."""
    archive = Archive()
    done = 0
    stream = _Stream(_read_ahead(chunks, label, cancel))
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for number, member in enumerate(tar):
                name = posixpath.normpath(member.name)
                if member.issym() or member.islnk():
                    base = posixpath.dirname(name) if member.issym() else ""
                    archive.links[name] = posixpath.normpath(posixpath.join(base, member.linkname))
                elif content := tar.extractfile(member):
                    path = scratch / f"member-{number}"
                    archive.digests[path] = _store(content.read, path)
                    archive.names[name] = path
                    done += member.size
                    sink(Progressed(label, done, None, "bytes"))
    except tarfile.TarError as error:
        raise CcError(
            "image-invalid", f"{image}: what the daemon sent is no archive: {error}", hint="try again"
        ) from error
    return archive


def _store(read: Callable[[int], bytes], path: Path) -> Sha256:
    seen = hashlib.sha256()
    with path.open("wb") as file:
        while chunk := read(_CHUNK):
            seen.update(chunk)
            file.write(chunk)
    return Sha256(seen.digest())


class _Stream(io.RawIOBase):
    """Chunks as the file that tarfile reads."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            following = next(self._chunks, None)
            if following is None:
                return b""
            self._rest = following
        size = len(self._rest) if size < 0 else size
        part, self._rest = self._rest[:size], self._rest[size:]
        return part


def _named_config(archive: Archive, listing: Path, reference: Reference) -> Path:
    config = archive.find(str(_entry(listing, reference).get("Config")))
    if config is None:
        raise _damaged(reference, "it has no config")
    return config


def _entry(listing: Path, reference: Reference) -> dict[str, Any]:
    """The one image that `manifest.json` lists."""
    if listing.stat().st_size > MAX_MANIFEST:
        raise _damaged(reference, "its manifest.json is too long")
    try:
        [entry] = json.loads(listing.read_bytes())
    except (ValueError, TypeError) as error:
        raise _damaged(reference, "its manifest.json does not list one image") from error
    if not isinstance(entry, dict) or not isinstance(entry.get("Layers"), list):
        raise _damaged(reference, "its manifest.json lists no layers")
    return entry


def _write_saved(archive: Archive, listing: Path, config: Path, reference: Reference, to: Path) -> None:
    """The layout of config and uncompressed layers, with a manifest of our own."""
    assert reference.digest
    data = config.read_bytes()
    wanted = parse_config(data, str(reference))
    layers = [archive.find(str(name)) for name in _entry(listing, reference)["Layers"]]
    if len(layers) != len(wanted):
        raise _damaged(reference, f"it has {len(layers)} layers, and its config speaks of {len(wanted)}")
    descriptors: list[Descriptor] = []
    with disk_errors(to):
        blob_path(to, reference.digest).parent.mkdir(parents=True)
        blob_path(to, reference.digest).write_bytes(data)
        for path, digest in zip(layers, wanted, strict=True):
            if path is None:
                raise _damaged(reference, f"layer sha256:{digest.hex} is missing in it")
            if archive.digests[path] != digest:
                raise wrong_hash(f"{reference}, a layer", digest, archive.digests[path])
            if not blob_path(to, digest).exists():
                shutil.move(path, blob_path(to, digest))
            descriptors.append(Descriptor(OCI_LAYER, digest, blob_path(to, digest).stat().st_size))
        manifest = canonical_json(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": Descriptor(OCI_CONFIG, reference.digest, len(data)).value(),
                "layers": [each.value() for each in descriptors],
            }
        )
        digest = Sha256.of(manifest)
        blob_path(to, digest).write_bytes(manifest)
    finish_layout(to, Descriptor(OCI_MANIFEST, digest, len(manifest)))


@dataclass(frozen=True, slots=True)
class _Spooled:
    """The blobs of an archive that is an OCI layout; what has a digest there has been hashed."""

    archive: Archive
    reference: Reference

    def manifest(self, digest: Sha256, size: int | None) -> bytes:
        path = self._find(digest)
        if path.stat().st_size > MAX_MANIFEST:
            raise _damaged(self.reference, "its manifest is too long")
        return path.read_bytes()

    def collect(self, blobs: list[Descriptor], target: Callable[[Sha256], Path]) -> None:
        for blob in blobs:
            with disk_errors(target(blob.digest)):
                shutil.copyfile(self._find(blob.digest), target(blob.digest))

    def _find(self, digest: Sha256) -> Path:
        path = self.archive.by_digest(digest)
        if path is None:
            raise _damaged(self.reference, f"blob sha256:{digest.hex} is missing in it")
        return path


def _damaged(reference: Reference, what: str) -> CcError:
    return CcError(
        "image-invalid",
        f"{reference}: what Docker saved is incomplete: {what}",
        hint="try again, or pull it anew",
    )
