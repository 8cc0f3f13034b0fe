from __future__ import annotations

from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.events import ignore
from ccstore.fetch.mirrors import Mirrors
from ccstore.fetch.url import fetch_url
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import UrlSource
from ccstore.model.hashes import Sha256
from ccstore.ports import Cancel
from ccstore.transfer.patience import Patience
from tests.certificates import certificate
from tests.fetch.server import Answer, Server

CONTENT = b"content" * 1000


def fetch(url: str, folder: Path) -> bytes:
    fixed = FixedOutput("x", "flat", Sha256.of(CONTENT))
    source = UrlSource((url,), stall_timeout=3.0)
    patience = Patience(first_pause=0.001)
    to = folder / "to"
    fetch_url(
        source, fixed, to, Mirrors({}), "x", ignore, Cancel(), partial=folder / "partial", patience=patience
    )
    return to.read_bytes()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_the_authorities_of_the_environment_are_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, key = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    with Server(CONTENT, [Answer(cut_after=100), Answer()]).use_tls(chain, key) as server:
        assert fetch(server.url, tmp_path) == CONTENT
    assert server.ranges == [None, "bytes=100-"]


def test_an_unknown_authority_is_not_asked_twice(tmp_path: Path) -> None:
    with Server(CONTENT).use_tls(*certificate(tmp_path)) as server, pytest.raises(CcError) as caught:
        fetch(server.url, tmp_path)
    assert caught.value.code == "unreachable"
    assert "certificate" in caught.value.details[0].lower()
    assert server.requests == []


def test_no_redirect_leads_from_https_to_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, key = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    with Server(CONTENT) as plain:
        down = Answer(status=301, headers={"Location": plain.url})
        with Server(b"", [down]).use_tls(chain, key) as server, pytest.raises(CcError) as caught:
            fetch(server.url, tmp_path)
    assert caught.value.code == "unreachable"
    assert plain.requests == []
