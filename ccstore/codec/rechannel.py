"""Where a Remote Execution service is, and the gRPC channel to it: encryption, and who we are."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ccstore.errors import CcError


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a service is, and how to speak to it. `url` is grpc://HOST:PORT, grpcs://HOST:PORT or unix:/PATH.

    `token` is a file whose content goes into each call as `authorization: Bearer …`; `ca`, `cert` and `key` are PEM
    files: whom to trust, and who we are. `image` is what workers that run actions in an image are to take.
    """

    url: str
    instance: str = ""
    headers: Mapping[str, str] | None = None
    token: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    image: str = ""


def open_channel(remote: Remote) -> Any:
    """Raises `tool-missing` without gRPC, `usage` for a URL and `config-invalid` for files that cannot be used."""
    # before gRPC is loaded, or it writes on the terminal
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        import grpc
    except ImportError as error:
        message = "remote execution needs gRPC, which is not installed"
        raise CcError("tool-missing", message, hint="pip install 'ccstore[remote]'") from error
    options = [("grpc.max_receive_message_length", -1)]
    if remote.url.startswith("unix:/"):
        return grpc.insecure_channel(remote.url, options)
    scheme, place = _address(remote.url)
    if scheme == "grpc":
        return grpc.insecure_channel(place, options)
    return grpc.secure_channel(place, grpc.ssl_channel_credentials(*_credentials(remote)), options)


def _address(url: str) -> tuple[str, str]:
    """Scheme and HOST:PORT; gRPC itself takes any text, and a port for what is left of it in 16 bits."""
    scheme, _, place = url.partition("://")
    try:
        parts = urlsplit(url)
        whole = bool(parts.hostname and parts.port) and parts.netloc == place
    except ValueError:
        whole = False
    if scheme not in ("grpc", "grpcs") or not whole:
        hint = "grpc://HOST:PORT, grpcs://HOST:PORT (TLS) or unix:/PATH"
        raise CcError("usage", f"{url!r} is no address of a remote execution service", hint=hint)
    return scheme, place


def metadata(remote: Remote) -> list[tuple[str, str]]:
    """The headers of every call."""
    found = [(name.lower(), value) for name, value in (remote.headers or {}).items()]
    if remote.token:
        token = _content(remote.token).decode("utf-8", "replace").strip()
        found.append(("authorization", f"Bearer {token}"))
    return found


def _credentials(remote: Remote) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Whom to trust, our key and our certificate: gRPC itself takes any text, and fails at the first call."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    trusted = _content(remote.ca) if remote.ca else None
    if remote.ca and trusted is not None:
        _loaded(x509.load_pem_x509_certificates, trusted, remote.ca, "certificates")
    if remote.cert is None and remote.key is None:
        return trusted, None, None
    if remote.cert is None or remote.key is None:
        given, other = ("cert", "key") if remote.cert else ("key", "cert")
        raise CcError(
            "config-invalid", f"`remote:` has a `{given}:` without its `{other}:`", hint=f"add `{other}:`"
        )
    chain, key = _content(remote.cert), _content(remote.key)
    [first, *_] = _loaded(x509.load_pem_x509_certificates, chain, remote.cert, "certificates")
    ours = _loaded(
        lambda data: serialization.load_pem_private_key(data, None), key, remote.key, "private key"
    )
    if first.public_key() != ours.public_key():
        raise _unusable(f"{remote.key} is not the key of the certificate {remote.cert}")
    return trusted, key, chain


def _loaded(load: Callable[[bytes], Any], data: bytes, file: Path, what: str) -> Any:
    try:
        return load(data)
    except (ValueError, TypeError) as error:  # TypeError: the key has a password
        raise _unusable(f"{file} has no {what} in PEM that can be used: {error}") from error


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unusable(f"{file} cannot be read: {error.strerror}") from error


def _unusable(message: str) -> CcError:
    return CcError("config-invalid", message, hint="correct `remote:` in the configuration")
