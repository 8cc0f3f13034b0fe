"""Authentication with a registry: Docker's token protocol (RFC 6750 challenges) and basic authentication.

A registry that wants to know who asks answers 401 with `WWW-Authenticate: Bearer realm="…",service="…",scope="…"`;
the realm gives a token for that scope, to anonymous users too where reading is free. User names and passwords come
from Docker's own `config.json`. Neither they nor a token ever go to another host than the registry and its realm,
nor in plain text where the registry itself is asked over TLS.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from ccstore.codec.oci import DOCKER_HUB
from ccstore.errors import CcError

_PARAMETER = re.compile(r'([A-Za-z_]+)="([^"]*)"')
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?")


@dataclass(frozen=True, slots=True)
class Credentials:
    """`token` is a refresh token ("identity token"), which stands in for the password."""

    user: str = ""
    password: str = ""
    token: str = ""


def base_url(registry: str, *, insecure: bool = False) -> str:
    """Where a registry is asked: https, but plain http on this machine itself, or where `insecure` allows it."""
    if registry == DOCKER_HUB:
        return "https://registry-1.docker.io"
    plain = insecure or _LOOPBACK.fullmatch(registry)
    return f"{'http' if plain else 'https'}://{registry}"


def find_credentials(registry: str, environ: Mapping[str, str]) -> Credentials | None:
    """What the user's Docker configuration has for `registry`. Raises `config-invalid` if it cannot be read."""
    path = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME") or "/", ".docker"), "config.json")
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    try:
        return parse_credentials(text, registry)
    except (ValueError, TypeError, AttributeError) as error:
        raise CcError(
            "config-invalid",
            f"Docker's configuration cannot be understood: {error}",
            where=str(path),
            hint="mend it, or set DOCKER_CONFIG to a folder with another one",
        ) from error


def parse_credentials(text: str, registry: str) -> Credentials | None:
    """The entry for `registry` in a Docker `config.json`; raises ValueError, TypeError, AttributeError."""
    keys = [registry, f"https://{registry}", f"https://{registry}/", f"https://{registry}/v2/"]
    if registry == DOCKER_HUB:
        keys.insert(0, "https://index.docker.io/v1/")
    entries = json.loads(text).get("auths") or {}
    for entry in filter(None, map(entries.get, keys)):
        if token := entry.get("identitytoken"):
            return Credentials(token=str(token))
        if entry.get("auth"):
            try:
                user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
            except binascii.Error as error:
                raise ValueError(f"`auth` of {registry} is not base64") from error
            return Credentials(user, password.rstrip("\0"))
        if entry.get("username"):
            return Credentials(str(entry["username"]), str(entry.get("password", "")))
    return None


def uses_helper(environ: Mapping[str, str]) -> bool:
    """Whether Docker keeps its passwords elsewhere, in a helper program that ccstore does not run."""
    path = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME") or "/", ".docker"), "config.json")
    try:
        return bool({"credsStore", "credHelpers"} & json.loads(path.read_text()).keys())
    except (OSError, ValueError, AttributeError):
        return False


class RegistryAuth(httpx.Auth):
    """Answers the challenges of the registry at `base`; after a redirect to another host it adds nothing.

    `scope` is asked for where the challenge names none, for example `repository:guest/kernel:pull,push`.
    """

    def __init__(self, base: str, scope: str, credentials: Credentials | None) -> None:
        self._origin = _origin(httpx.URL(base))
        self._scope = scope
        self._credentials = credentials
        self._header = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if _origin(request.url) != self._origin:
            yield request
            return
        if self._header:
            request.headers["Authorization"] = self._header
        response = yield request
        if response.status_code != 401:
            return
        self._header = ""
        scheme, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        if scheme.lower() == "basic" and self._credentials and self._credentials.user:
            self._header = _basic(self._credentials)
        elif scheme.lower() == "bearer":
            asking = self._token_request(dict(_PARAMETER.findall(rest)), request)
            if asking:
                answer = yield asking
                answer.read()
                self._header = _token(answer)
        if self._header:
            request.headers["Authorization"] = self._header
        else:
            request.headers.pop("Authorization", None)
        yield request  # also without a token: its 401 is the answer then, and not what the realm said

    def _token_request(self, challenge: Mapping[str, str], request: httpx.Request) -> httpx.Request | None:
        """What asks the realm for a token; None for a realm that a password must not be shown to."""
        realm = httpx.URL(challenge.get("realm", ""))
        if realm.scheme != "https" and request.url.scheme == "https":
            return None
        asked = {"service": challenge.get("service", ""), "scope": challenge.get("scope", self._scope)}
        found = self._credentials
        if found and found.token:
            form = {
                **asked,
                "grant_type": "refresh_token",
                "refresh_token": found.token,
                "client_id": "ccstore",
            }
            return httpx.Request("POST", realm, data=form, extensions=request.extensions)
        headers = {"Authorization": _basic(found)} if found else {}
        return httpx.Request(
            "GET", realm.copy_merge_params(asked), headers=headers, extensions=request.extensions
        )


def auth_needed(image: str, registry: str, environ: Mapping[str, str] = os.environ) -> CcError:
    """The error for a registry that says 401 or 403 to the end."""
    helper = (
        "; a credential helper is configured there, which ccstore does not ask"
        if uses_helper(environ)
        else ""
    )
    return CcError(
        "auth-needed",
        f"{registry} does not let us at {image}",
        hint=f"`docker login {registry}` writes the password to ~/.docker/config.json, which is read here{helper}; "
        "registries answer like this for an image that does not exist, too",
    )


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return (url.scheme, url.host, url.port)


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.user}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _token(response: httpx.Response) -> str:
    """The Authorization header that the realm's answer allows, "" if it gave no token."""
    try:
        value = response.json() if response.status_code == 200 else {}
    except ValueError:
        return ""
    token = (value.get("token") or value.get("access_token")) if isinstance(value, dict) else None
    return f"Bearer {token}" if isinstance(token, str) and token else ""
