"""Blobs of an image in a registry, by the OCI distribution specification 1.1.

Blobs are transferred as other downloads are: resumed, given up when nothing comes, checked while they stream in.
What is complete stays among the unfinished until the whole image is there, so an interrupted pull loses nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ccstore.codec.oci import INDEX_TYPES, MANIFEST_TYPES, MAX_MANIFEST, Descriptor, Reference
from ccstore.codec.ociauth import RegistryAuth, auth_needed, base_url, find_credentials
from ccstore.errors import CcError
from ccstore.events import Sink, to_sink
from ccstore.fetch.oci_image import wrong_hash
from ccstore.model.hashes import Sha256
from ccstore.ports import Cancel
from ccstore.transfer.attempt import Line, Meter, TransferError, Wanted, open_client
from ccstore.transfer.download import Download
from ccstore.transfer.partial import Partial, disk_errors
from ccstore.transfer.patience import Patience

STALL_TIMEOUT = 30.0  # seconds
_ACCEPT = ", ".join((*INDEX_TYPES, *MANIFEST_TYPES, "*/*"))

Attempts = Callable[[Partial, Wanted, str], TransferError | None]


@dataclass(frozen=True, slots=True)
class Registry:
    """The blobs of one repository; `attempts` gets a URL into a partial file."""

    reference: Reference
    url: str
    partial: Path
    attempts: Attempts
    cancel: Cancel
    max_size: int

    def manifest(self, digest: Sha256, size: int | None) -> bytes:
        return self._get(f"manifests/sha256:{digest.hex}", digest, size, MAX_MANIFEST).read_bytes()

    def collect(self, blobs: list[Descriptor], target: Callable[[Sha256], Path]) -> None:
        for blob in blobs:
            self._get(f"blobs/sha256:{blob.digest.hex}", blob.digest, blob.size, self.max_size)
        for blob in blobs:
            with disk_errors(self.partial):
                shutil.move(self._kept(blob.digest), target(blob.digest))

    def forget(self) -> None:
        """Removes what a finished pull leaves: manifests, and the notes on where blobs began."""
        for path in self.partial.parent.glob(f"{self.partial.name}.*"):
            path.unlink()

    def _kept(self, digest: Sha256) -> Path:
        return self.partial.with_name(f"{self.partial.name}.{digest.hex}")

    def _get(self, path: str, digest: Sha256, size: int | None, most: int) -> Path:
        """The file with a blob or manifest, whole and right."""
        kept = self._kept(digest)
        with Partial(kept, self.cancel) as content:
            if content.sha256 == digest:
                if not content.size:
                    raise CcError(
                        "image-invalid",
                        f"{self.reference}: a blob of it is empty",
                        hint="take another image: no part of one can be empty",
                    )
                return kept
            failure = self.attempts(content, Wanted(digest, size, most), f"{self.url}/{path}")
        if failure:
            raise _verdict(self.reference, digest, path, failure)
        return kept


@contextmanager
def open_registry(
    reference: Reference,
    identity: str,
    partials: Path,
    label: str,
    sink: Sink,
    cancel: Cancel,
    environ: Mapping[str, str],
    patience: Patience,
) -> Iterator[Registry]:
    """The registry of `reference`; what it keeps in `partials` goes when the block ends well."""
    base = base_url(reference.registry)
    credentials = find_credentials(reference.registry, environ)
    auth = RegistryAuth(base, f"repository:{reference.repository}:pull", credentials)
    with (
        Line(cancel) as line,
        open_client(
            patience.connect_timeout, STALL_TIMEOUT, auth=auth, headers={"Accept": _ACCEPT}
        ) as client,
    ):
        meter = Meter(to_sink(label, sink), patience.clock)

        def attempts(content: Partial, wanted: Wanted, url: str) -> TransferError | None:
            return Download(client, content, wanted, meter, line, patience).get(url)

        url = f"{base}/v2/{reference.repository}"
        registry = Registry(reference, url, partials / identity, attempts, cancel, patience.max_size)
        yield registry
        registry.forget()


def _verdict(reference: Reference, wanted: Sha256, path: str, failure: TransferError) -> CcError:
    """The error for a blob or manifest that could not be had."""
    details = (f"{path}: {failure.reason}",)
    if failure.status in (401, 403):
        return auth_needed(str(reference), reference.registry)
    if failure.status == 404:
        hint = "look the digest up again: `docker buildx imagetools inspect NAME:TAG` prints it"
        return CcError(
            "image-missing", f"{reference.registry} has no {reference}", hint=hint, details=details
        )
    if failure.got:
        return wrong_hash(f"{reference}, {path}", wanted, failure.got)
    if failure.kind in ("mismatch", "too-large"):
        return CcError(
            "image-invalid",
            f"{reference}: a part has the wrong size",
            details=details,
            hint="try again; if it stays so, push the image to that registry again",
        )
    if failure.kind == "stalled":
        return CcError(
            "fetch-stalled",
            f"{reference.registry} sends nothing any more",
            hint="try again: what has arrived is kept",
            details=details,
        )
    return CcError(
        "unreachable",
        f"{reference} could not be had",
        hint="check the network and the proxy",
        details=details,
    )
