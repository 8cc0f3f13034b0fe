"""Ranges and validators as a real web server serves them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccstore.events import ignore
from ccstore.fetch.mirrors import Mirrors
from ccstore.fetch.url import fetch_url
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import UrlSource
from ccstore.model.hashes import Sha256
from ccstore.ports import Cancel
from tests.nginx import Site, needs_nginx, serving

CONTENT = os.urandom(3 << 20)
pytestmark = needs_nginx


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(tmp_path) as found:
        (found.folder / "file").write_bytes(CONTENT)
        yield found


@pytest.mark.parametrize("kept", [0, 1, 1 << 20])
def test_a_range_is_continued(tmp_path: Path, site: Site, kept: int) -> None:
    partial, to = tmp_path / "partial", tmp_path / "to"
    partial.write_bytes(CONTENT[:kept])
    source = UrlSource(("mirror://own/missing", "mirror://own/file"), len(CONTENT))
    fixed = FixedOutput("x", "flat", Sha256.of(CONTENT))
    fetch_url(source, fixed, to, Mirrors({"own": [site.url]}), "x", ignore, Cancel(), partial=partial)
    assert to.read_bytes() == CONTENT
    last = site.requests()[-1]
    assert [last[1], last[3]] == (["206", f"bytes={kept}-"] if kept else ["200", "-"])
