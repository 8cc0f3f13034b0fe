"""Encryption and credentials: a real nginx, which asks for them, in front of a real buildbox-casd."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ccstore.codec.rechannel import Remote
from ccstore.errors import CcError
from ccstore.executor.remote import RemoteExecutor
from tests.certificates import Certificate, certificate
from tests.lines import Line
from tests.nginx import needs_nginx, serving

from .conftest import Builds

EXECUTORS = ("remote",)
pytestmark = needs_nginx
TOKEN = "a-secret-of-the-cluster"


@pytest.fixture
def authority(tmp_path: Path) -> Certificate:
    return certificate(tmp_path, "authority")


@contextmanager
def guarded(casd: str, folder: Path, server: Certificate, more: str = "") -> Iterator[Remote]:
    """The service behind TLS; `more` says what nginx asks of clients."""
    (folder / "nginx").mkdir()
    configuration = (
        f"ssl_certificate {server.chain}; ssl_certificate_key {server.key}; client_max_body_size 0; {more}"
        f"location / {{ grpc_pass grpc://{casd}; grpc_read_timeout 600s; }}"
    )
    with serving(folder / "nginx", configuration, "ssl http2") as site:
        yield Remote(site.url.replace("http:", "grpcs:"))


def built(builds: Builds, remote: Remote) -> str:
    builds.executor = RemoteExecutor(remote)
    return builds.run(f"echo {builds.place} > $out").out().strip()


def refused(builds: Builds, remote: Remote) -> tuple[str, str]:
    """The code of the error, and what to do next."""
    builds.executor = RemoteExecutor(remote)
    with pytest.raises(CcError) as caught:
        builds.run("true")
    assert TOKEN not in str(caught.value)
    return caught.value.code, caught.value.hint or ""


def test_tls(builds: Builds, casd: str, tmp_path: Path, authority: Certificate) -> None:
    with guarded(casd, tmp_path, certificate(tmp_path, "server", authority)) as remote:
        assert built(builds, replace(remote, ca=authority.chain)) == str(builds.place)
        code, hint = refused(builds, remote)
        assert (code, "ca: FILE" in hint) == ("unreachable", True)
        stranger = certificate(tmp_path, "stranger")
        assert refused(builds, replace(remote, ca=stranger.chain)) == (code, hint)
        code, hint = refused(builds, replace(remote, url=remote.url.replace("grpcs:", "grpc:")))
        assert (code, "grpcs://" in hint) == ("unreachable", True)


def test_a_certificate_of_another_host(
    builds: Builds, casd: str, tmp_path: Path, authority: Certificate
) -> None:
    with guarded(casd, tmp_path, certificate(tmp_path, "server", authority, "192.0.2.1")) as remote:
        code, hint = refused(builds, replace(remote, ca=authority.chain))
    assert (code, "name" in hint) == ("unreachable", True)


def test_who_we_are_by_certificate(builds: Builds, casd: str, tmp_path: Path, authority: Certificate) -> None:
    ask = f"ssl_verify_client on; ssl_client_certificate {authority.chain};"
    ours = certificate(tmp_path, "ours", authority)
    theirs = certificate(tmp_path, "theirs")
    with guarded(casd, tmp_path, certificate(tmp_path, "server", authority), ask) as remote:
        remote = replace(remote, ca=authority.chain)
        assert built(builds, replace(remote, cert=ours.chain, key=ours.key)) == str(builds.place)
        for each in (remote, replace(remote, cert=theirs.chain, key=theirs.key)):
            code, hint = refused(builds, each)
            assert (code, "cert: FILE" in hint) == ("auth-needed", True)


def test_a_token(builds: Builds, casd: str, tmp_path: Path, authority: Certificate) -> None:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    ask = f'if ($http_authorization != "Bearer {TOKEN}") {{ return 401; }}'
    with guarded(casd, tmp_path, certificate(tmp_path, "server", authority), ask) as remote:
        remote = replace(remote, ca=authority.chain)
        assert built(builds, replace(remote, token=token)) == str(builds.place)
        header = {"Authorization": f"Bearer {TOKEN}"}
        assert built(builds, replace(remote, headers=header)) == str(builds.place)
        code, hint = refused(builds, remote)
        assert (code, "token" in hint) == ("auth-needed", True)
        token.write_text("another\n")
        assert refused(builds, replace(remote, token=token))[0] == "auth-needed"


def test_files_that_are_none(builds: Builds, tmp_path: Path, authority: Certificate) -> None:
    remote = Remote("grpcs://127.0.0.1:9")
    nothing, text = tmp_path / "nothing.pem", tmp_path / "text.pem"
    text.write_text("no certificate\n")
    other = certificate(tmp_path, "other")
    changes: tuple[dict[str, Any], ...] = (
        {"ca": nothing},
        {"ca": text},
        {"token": nothing},
        {"cert": authority.chain},
        {"key": authority.key},
        {"cert": authority.chain, "key": text},
        {"cert": text, "key": authority.key},
        {"cert": authority.chain, "key": other.key},
    )
    for wrong in changes:
        assert refused(builds, replace(remote, **wrong))[0] == "config-invalid", wrong


def test_tls_to_a_service_that_speaks_none(builds: Builds, casd: str) -> None:
    line = Line(casd.removeprefix("unix:"))
    code, hint = refused(builds, Remote(f"grpcs://{line.place}"))
    line.cut()
    assert (code, "grpc://" in hint) == ("unreachable", True)
