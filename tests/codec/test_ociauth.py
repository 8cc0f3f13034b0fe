"""Who a registry is told that we are, and who is not: the exchange, without a network."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest

from ccstore.codec.ociauth import (
    Credentials,
    RegistryAuth,
    auth_needed,
    base_url,
    find_credentials,
    parse_credentials,
)
from ccstore.errors import CcError

BASE = "https://registry.example.org"
SCOPE = "repository:guest/kernel:pull"
AUTH = base64.b64encode(b"me:se:cret").decode()
ME = Credentials("me", "se:cret")


def challenge(realm: str = "https://auth.example.org/token") -> httpx.Response:
    return httpx.Response(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="example"'})


def asked(auth: RegistryAuth, *answers: httpx.Response, url: str = f"{BASE}/v2/x") -> list[httpx.Request]:
    """The requests that `auth` makes for one to `url`, given these answers, as they were when they were sent."""
    flow = auth.auth_flow(httpx.Request("GET", url))
    sent = []

    def note(request: httpx.Request) -> None:
        sent.append(
            httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
        )

    note(next(flow))
    for answer in answers:
        try:
            note(flow.send(answer))
        except StopIteration:
            break
    return sent


def token(text: str) -> httpx.Response:
    return httpx.Response(200, json={"access_token": text})


def test_a_token_for_whom_anybody_may_ask() -> None:
    first, realm, second = asked(RegistryAuth(BASE, SCOPE, None), challenge(), token("abc"))
    assert "Authorization" not in first.headers
    assert dict(realm.url.params) == {"service": "example", "scope": SCOPE}
    assert "Authorization" not in realm.headers
    assert second.headers["Authorization"] == "Bearer abc"


def test_a_token_serves_the_next_request_too_and_is_asked_for_anew_when_it_is_over() -> None:
    auth = RegistryAuth(BASE, SCOPE, None)
    asked(auth, challenge(), token("abc"))
    [again] = asked(auth)
    assert again.headers["Authorization"] == "Bearer abc"
    *_, last = asked(auth, challenge(), token("def"))
    assert last.headers["Authorization"] == "Bearer def"


def test_a_password_is_shown_to_the_realm_alone() -> None:
    first, realm, second = asked(RegistryAuth(BASE, SCOPE, ME), challenge(), token("abc"))
    assert "Authorization" not in first.headers
    assert realm.headers["Authorization"] == f"Basic {AUTH}"
    assert second.headers["Authorization"] == "Bearer abc"


def test_an_identity_token_is_traded_for_another() -> None:
    _, realm, _ = asked(RegistryAuth(BASE, SCOPE, Credentials(token="long")), challenge(), token("abc"))
    form = parse_qs(realm.content.decode())
    assert (realm.method, form["grant_type"], form["refresh_token"]) == ("POST", ["refresh_token"], ["long"])


def test_no_password_leaves_tls() -> None:
    first, second = asked(RegistryAuth(BASE, SCOPE, ME), challenge("http://auth.example.org/token"))
    assert first.url.host == second.url.host == "registry.example.org"
    assert "Authorization" not in second.headers


def test_another_host_is_told_nothing() -> None:
    auth = RegistryAuth(BASE, SCOPE, ME)
    asked(auth, challenge(), token("abc"))
    for url in ("https://cdn.example.org/blob", "http://registry.example.org/v2/x", f"{BASE}:444/v2/x"):
        [request] = asked(auth, challenge(), url=url)
        assert "Authorization" not in request.headers


@pytest.mark.parametrize(
    "answer", [httpx.Response(403), httpx.Response(200, text="x"), httpx.Response(200, json=[])]
)
def test_a_realm_that_gives_no_token(answer: httpx.Response) -> None:
    *_, last = asked(RegistryAuth(BASE, SCOPE, ME), challenge(), answer)
    assert "Authorization" not in last.headers
    assert last.url.host == "registry.example.org"  # its 401 is the answer


@pytest.mark.parametrize(
    ("registry", "entries", "found"),
    [
        ("a.example", {"a.example": {"auth": AUTH}}, ME),
        ("a.example", {"https://a.example/v2/": {"username": "me", "password": "se:cret"}}, ME),
        ("docker.io", {"https://index.docker.io/v1/": {"auth": AUTH}}, ME),
        ("a.example", {"a.example": {"identitytoken": "t", "auth": AUTH}}, Credentials(token="t")),
        ("b.example", {"a.example": {"auth": AUTH}}, None),
        ("a.example", {"a.example": {}}, None),
    ],
)
def test_what_docker_login_wrote(registry: str, entries: object, found: Credentials | None) -> None:
    assert parse_credentials(json.dumps({"auths": entries}), registry) == found


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": [1]}', '{"auths": {"a": {"auth": "%%"}}}'])
def test_a_configuration_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CcError) as caught:
        find_credentials("a", {"DOCKER_CONFIG": str(tmp_path)})
    assert caught.value.code == "config-invalid"


def test_a_credential_helper_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"credsStore": "pass"}')
    error = auth_needed("a/b", "a", {"DOCKER_CONFIG": str(tmp_path)})
    assert "credential helper" in (error.hint or "")
    assert "credential helper" not in (auth_needed("a/b", "a", {}).hint or "")


@pytest.mark.parametrize(
    ("registry", "base"),
    [
        ("docker.io", "https://registry-1.docker.io"),
        ("localhost:5000", "http://localhost:5000"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("localhost.example.org", "https://localhost.example.org"),
        ("127.0.0.1.example.org:80", "https://127.0.0.1.example.org:80"),
    ],
)
def test_plain_http_is_for_this_machine(registry: str, base: str) -> None:
    assert base_url(registry) == base
    assert base_url("r.example", insecure=True) == "http://r.example"
