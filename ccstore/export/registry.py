"""Pushing an image to a registry, by the OCI distribution specification 1.1.

Blobs that are there are not sent. A small one goes in one request; a large one in chunks, of which one that fails
is asked about and sent again. The manifest comes last, once for each tag, so a tag never names what is not whole.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx

from ccstore.codec.oci import Descriptor, Reference
from ccstore.codec.ociauth import RegistryAuth, auth_needed, base_url, find_credentials
from ccstore.errors import CcError
from ccstore.events import Noted, Progressed, Sink, reported
from ccstore.export.image import Image

CHUNK = 32 << 20  # bytes
ATTEMPTS = 3
PAUSE = 0.5  # seconds after the first failure, and more after each
_PIECE = 1 << 20
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_OCTETS = "application/octet-stream"
T = TypeVar("T")


def push(
    image: Image,
    names: list[Reference],
    sink: Sink,
    *,
    insecure: bool = False,
    environ: Mapping[str, str] = os.environ,
    chunk: int = CHUNK,
) -> None:
    """Pushes `image` to each repository in `names`, and tags it.

    `insecure` allows plain http to registries that are not on this machine. Raises `unreachable`, `auth-needed`,
    `push-refused`, `hash-mismatch`.
    """
    by_repository: dict[tuple[str, str], list[Reference]] = {}
    for name in names:
        by_repository.setdefault((name.registry, name.repository), []).append(name)
    for (registry, repository), tags in by_repository.items():
        with reported(sink, f"{registry}/{repository}", "push"):
            _push(image, registry, repository, tags, sink, insecure=insecure, environ=environ, chunk=chunk)


def _push(
    image: Image,
    registry: str,
    repository: str,
    tags: list[Reference],
    sink: Sink,
    *,
    insecure: bool,
    environ: Mapping[str, str],
    chunk: int,
) -> None:
    base = base_url(registry, insecure=insecure)
    auth = RegistryAuth(base, f"repository:{repository}:pull,push", find_credentials(registry, environ))
    with httpx.Client(auth=auth, timeout=_TIMEOUT) as client:
        transfers = _Transfers(client, f"{base}/v2/{repository}", registry, repository, sink, chunk)
        try:
            transfers.image(image, tags)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CcError(
                "unreachable",
                f"{registry} cannot be reached: {error or type(error).__name__}",
                hint="check the network; --insecure allows plain http to a registry that has no TLS",
            ) from error


class _BusyError(Exception):
    """An answer that may be another one soon."""

    def __init__(self, error: CcError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(slots=True)
class _Transfers:
    """The transfers to one repository."""

    client: httpx.Client
    url: str
    registry: str
    repository: str
    sink: Sink
    chunk: int

    @property
    def label(self) -> str:
        return f"{self.registry}/{self.repository}"

    def image(self, image: Image, tags: list[Reference]) -> None:
        for blob in image.blobs():
            if self._again(partial(self._has, blob)):
                self.sink(Noted(f"sha256:{blob.digest.hex[:12]} is there already", self.label))
            else:
                self._again(partial(self._blob, blob, image.path(blob)))
        for name in tags:
            self._again(partial(self._manifest, image, str(name.tag)))
            self.sink(Noted(f"tagged {name.tag}", self.label))

    def _again(self, work: Callable[[], T]) -> T:
        """What `work` gives, tried again while it fails for reasons that pass."""
        for attempt in range(1, ATTEMPTS):
            try:
                return work()
            except (_BusyError, httpx.TransportError):
                time.sleep(PAUSE * attempt)
        try:
            return work()
        except _BusyError as busy:
            raise busy.error from busy

    def _has(self, blob: Descriptor) -> bool:
        answer = self.client.head(f"{self.url}/blobs/sha256:{blob.digest.hex}", follow_redirects=True)
        if answer.status_code == 404:
            return False
        self._check(answer, 200)
        return True

    def _blob(self, blob: Descriptor, path: Path) -> None:
        """Sends one blob: POST opens the upload, PATCH adds chunks to it, PUT adds the rest and ends it."""
        answer = self._check(self.client.post(f"{self.url}/blobs/uploads/"), 202)
        at = failures = 0
        while blob.size - at > self.chunk:
            try:
                answer = self._chunk(answer, path, at)
                at = _arrived(answer, otherwise=at + self.chunk)
            except (_BusyError, httpx.TransportError):
                failures += 1
                if failures == ATTEMPTS:
                    raise
                time.sleep(PAUSE * failures)
                answer = self._check(self.client.get(self._place(answer)), 204)
                at = _arrived(answer, otherwise=0)
            if at > blob.size:
                raise self._refused(answer, f"it has {at} bytes of a blob of {blob.size}")
        place = self._place(answer).copy_merge_params({"digest": f"sha256:{blob.digest.hex}"})
        headers = {"Content-Type": _OCTETS, "Content-Length": str(blob.size - at)}
        self._check(self.client.put(place, content=self._read(path, at, blob.size), headers=headers), 201)

    def _chunk(self, opened: httpx.Response, path: Path, at: int) -> httpx.Response:
        end = at + self.chunk
        headers = {
            "Content-Type": _OCTETS,
            "Content-Range": f"{at}-{end - 1}",
            "Content-Length": str(self.chunk),
        }
        content = self._read(path, at, end)
        answer = self._check(self.client.patch(self._place(opened), content=content, headers=headers), 202)
        if _arrived(answer, otherwise=end) <= at:
            raise _BusyError(self._refused(answer, "it accepts a chunk and keeps nothing of it"))
        return answer

    def _manifest(self, image: Image, tag: str) -> None:
        data = image.path(image.descriptor).read_bytes()
        headers = {"Content-Type": image.descriptor.media_type}
        url = f"{self.url}/manifests/{tag}"
        answer = self._check(self.client.put(url, content=data, headers=headers), 201)
        got = answer.headers.get("Docker-Content-Digest", image.digest)
        if got != image.digest:
            raise CcError(
                "hash-mismatch",
                f"{self.registry} made something else of the image",
                hint="that registry converts what is pushed to it; choose another",
                details=(f"wanted {image.digest}", f"got    {got}"),
            )

    def _place(self, answer: httpx.Response) -> httpx.URL:
        """Where an upload goes on; a registry may send us to another host, but not out of TLS."""
        place = answer.url.join(answer.headers.get("Location", ""))
        if answer.url.scheme == "https" and place.scheme != "https":
            raise self._refused(answer, "it wants the upload in plain text")
        return place

    def _read(self, path: Path, start: int, end: int) -> Iterator[bytes]:
        with path.open("rb") as file:
            file.seek(start)
            while start < end and (piece := file.read(min(_PIECE, end - start))):
                start += len(piece)
                yield piece
                self.sink(Progressed(self.label, start, path.stat().st_size, "bytes"))

    def _check(self, answer: httpx.Response, wanted: int) -> httpx.Response:
        status = answer.status_code
        if status == wanted:
            return answer
        if status in (401, 403):
            raise auth_needed(self.repository, self.registry)
        error = self._refused(answer, f"HTTP {status} {answer.reason_phrase}")
        raise _BusyError(error) if status in _TRANSIENT else error

    def _refused(self, answer: httpx.Response, reason: str) -> CcError:
        said = answer.text.strip()[:500] if answer.request.method != "HEAD" else ""
        return CcError(
            "push-refused",
            f"{self.registry} refuses to take {self.repository}: {reason}",
            where=f"{answer.request.method} {answer.url.copy_with(query=None)}",
            hint="look at the registry's log, and at what it allows",
            details=tuple(said.splitlines()),
        )


def _arrived(answer: httpx.Response, otherwise: int) -> int:
    """How many bytes of an upload a registry has: `Range: 0-<last>`, where 0-0 is what it says of none at all.

    Registries that leave the header out have got what was sent: `otherwise`.
    """
    said = answer.headers.get("Range")
    if said is None:
        return otherwise
    match = re.fullmatch(r"(?:bytes=)?0-(\d+)", said)
    last = int(match[1]) if match else 0
    return last + 1 if last else 0
