"""Where the tests of downloads fetch to."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.events import Event, Noted
from ccstore.fetch.mirrors import Mirrors
from ccstore.fetch.url import fetch_url
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import UrlSource
from ccstore.model.hashes import Sha256
from ccstore.ports import Cancel
from ccstore.transfer.patience import Patience

CONTENT = bytes(range(256)) * 1200
HASTY = Patience(attempts=3, first_pause=0.001, longest_pause=2.0, connect_timeout=2.0, gain=1000)


@dataclass
class Bench:
    """Where one file is fetched to, and what is reported meanwhile."""

    folder: Path
    events: list[Event] = field(default_factory=list)
    cancel: Cancel = field(default_factory=Cancel)
    patience: Patience = HASTY
    stall_timeout: float = 5.0

    @property
    def to(self) -> Path:
        return self.folder / "result"

    @property
    def partial(self) -> Path:
        return self.folder / "partials" / "file"

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Noted) and event.warning]

    def fetch(
        self,
        *urls: str,
        content: bytes = CONTENT,
        size: int | None = None,
        executable: bool = False,
        mirrors: Mirrors | None = None,
    ) -> bytes:
        source = UrlSource(urls, size, executable, self.stall_timeout)
        fixed = FixedOutput("file", "flat", Sha256.of(content))
        fetch_url(
            source,
            fixed,
            self.to,
            mirrors or Mirrors({}),
            "kernel.source",
            self.events.append,
            self.cancel,
            partial=self.partial,
            patience=self.patience,
        )
        return self.to.read_bytes()

    def code(self, url: str, content: bytes) -> str | None:
        try:
            self.fetch(url, content=content)
        except CcError as error:
            return error.code
        return None

    def refused(self, *urls: str, content: bytes = CONTENT, size: int | None = None) -> CcError:
        with pytest.raises(CcError) as caught:
            self.fetch(*urls, content=content, size=size)
        assert not self.to.exists()
        return caught.value


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


CHILD = """
import sys
from pathlib import Path
from ccstore.events import ignore
from ccstore.fetch.mirrors import Mirrors
from ccstore.fetch.url import fetch_url
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import UrlSource
from ccstore.model.hashes import Sha256
from ccstore.ports import Cancel
url, sha256, to, partial = sys.argv[1:]
fixed = FixedOutput("file", "flat", Sha256.parse(sha256))
fetch_url(UrlSource((url,)), fixed, Path(to), Mirrors({}), "x", ignore, Cancel(), partial=Path(partial))
"""
