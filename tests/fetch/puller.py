"""Where the tests of images fetch to."""

from __future__ import annotations

import base64
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ccstore.codec.nar import nar_hash
from ccstore.errors import CcError
from ccstore.events import Event
from ccstore.fetch.oci import fetch_oci
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import OciSource
from ccstore.model.hashes import Sha256
from ccstore.ports import Cancel
from ccstore.transfer.patience import Patience
from tests.images import Image, layer

HASTY = Patience(attempts=3, first_pause=0.001, longest_pause=2.0, connect_timeout=2.0, gain=1000)
IMAGE = Image([layer({"etc/name": b"one\n"}), layer({"bin/tool": bytes(range(256)) * 400})])


@dataclass
class Puller:
    """Fetches images into folders below `folder`, with a home that has no Docker configuration but its own."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    cancel: Cancel = field(default_factory=Cancel)
    patience: Patience = HASTY
    _count: itertools.count[int] = field(default_factory=itertools.count)

    def pull(self, name: str, digest: Sha256, layout: Path | None = None) -> Path:
        to = self.folder / f"image-{next(self._count)}"
        scratch = self.folder / f"scratch-{to.name}"
        scratch.mkdir()
        fetch_oci(
            OciSource(f"{name}@sha256:{digest.hex}", layout),
            FixedOutput("image", "oci", digest),
            to,
            self.folder / "partials",
            scratch,
            "image",
            self.events.append,
            self.cancel,
            environ={"HOME": str(self.folder), **self.environ},
            patience=self.patience,
        )
        return to

    def hash(self, name: str, digest: Sha256, layout: Path | None = None) -> Sha256:
        return nar_hash(self.pull(name, digest, layout))[0]

    def refused(self, name: str, digest: Sha256 = IMAGE.sha256, layout: Path | None = None) -> CcError:
        with pytest.raises(CcError) as caught:
            self.pull(name, digest, layout)
        return caught.value

    def log_in(self, registry: str, user: str, password: str) -> None:
        """What `docker login` writes."""
        auth = base64.b64encode(f"{user}:{password}".encode()).decode()
        (self.folder / ".docker").mkdir()
        (self.folder / ".docker/config.json").write_text(json.dumps({"auths": {registry: {"auth": auth}}}))

    @property
    def left(self) -> list[str]:
        """What is kept of unfinished pulls."""
        partials = self.folder / "partials"
        found = partials.iterdir() if partials.exists() else ()
        return sorted(path.name for path in found if path.suffix != ".origin")
