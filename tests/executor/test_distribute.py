"""The way from a build to a service that compiles for it, and what does not go through."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ccstore.codec.reapi import message
from ccstore.codec.recas import Digest, LostError, Storage
from ccstore.codec.rechannel import Remote
from ccstore.codec.reclient import Client
from ccstore.errors import CcError
from ccstore.executor.distribute import Tally, distributed
from ccstore.executor.layout import SOCKET
from ccstore.ports import BuildRequest, Cancel, Launcher
from tests.certificates import certificate
from tests.cluster.proxy import proxy
from tests.nginx import needs_nginx

from .conftest import PlainTree
from .test_tls import TOKEN, guarded

EXECUTORS = ("sandbox",)


@contextmanager
def relayed(remote: Remote, place: Path) -> Iterator[tuple[Client, Launcher, Tally]]:
    """A client of the socket that a build would have, with a toolchain of one file."""
    for name in ("root", "out", "scratch", "cluster"):
        (place / name).mkdir(parents=True)
    (place / "root/tool").write_text(f"a tool of {place}\n")
    root = PlainTree(place / "root")
    request = BuildRequest("a build", root, (), place / "out", place / "scratch")
    with (
        TemporaryDirectory() as short,
        distributed(remote, root, "", request, place / "cluster", Cancel()) as (launcher, tally),
    ):
        Path(short, "c").symlink_to(place / "cluster")
        with Client(Remote(f"unix:{short}/c/{SOCKET}", remote.instance)) as client:
            yield client, launcher, tally


def test_blobs_travel_both_ways(casd: str, tmp_path: Path) -> None:
    large = b"x" * (9 << 20)
    with relayed(Remote(casd), tmp_path) as (client, launcher, _):
        storage = Storage(client)
        digests = [Digest.of(b"small"), Digest.of(large)]
        storage.upload({digests[0]: b"small", digests[1]: large}, lambda: None)
        assert [storage.read(each) for each in digests] == [b"small", large]
        hash_, _, size = launcher.toolchain.partition("/")
        root = message("Directory").FromString(storage.read(Digest(hash_, int(size))))
        assert [each.name for each in root.directories] == ["build", "in", "out", "tmp"]
        [tool] = root.files
        assert storage.read(Digest.read(tool.digest)) == (tmp_path / "root/tool").read_bytes()
        with pytest.raises(LostError):
            storage.read(Digest.of(b"nobody sent this"))


def test_only_what_a_compilation_needs_goes_through(casd: str, tmp_path: Path) -> None:
    """A build cannot say in the action cache what an action gave."""
    with relayed(Remote(casd), tmp_path) as (client, _, _):
        request = message("UpdateActionResultRequest")()
        Digest.of(b"an action").write(request.action_digest)
        with pytest.raises(CcError) as caught:
            client.call("update_result", request)
    assert caught.value.code == "remote-failed"
    assert "UNIMPLEMENTED" in caught.value.message


def test_the_path_of_a_socket_may_be_long(casd: str, tmp_path: Path) -> None:
    place = tmp_path / ("long" * 30)
    with pytest.raises(OSError, match="AF_UNIX path too long"), socket.socket(socket.AF_UNIX) as plain:
        plain.bind(str(place / SOCKET))
    with relayed(Remote(casd), place) as (client, _, _):
        Storage(client)


@needs_nginx
def test_whoever_we_are_stays_outside(casd: str, tmp_path: Path) -> None:
    """The service wants TLS and a token; the socket does not."""
    authority, token = certificate(tmp_path, "authority"), tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    ask = f'if ($http_authorization != "Bearer {TOKEN}") {{ return 401; }}'
    with guarded(casd, tmp_path, certificate(tmp_path, "server", authority), ask) as remote:
        remote = replace(remote, ca=authority.chain)
        with relayed(replace(remote, token=token), tmp_path / "ours") as (client, _, _):
            Storage(client)
        with pytest.raises(CcError) as caught, relayed(remote, tmp_path / "nobody"):
            pass
    assert caught.value.code == "auth-needed"


def test_a_service_that_goes_away(casd: str, tmp_path: Path) -> None:
    """Calls are refused, and do not hang."""
    with ExitStack() as lost, ExitStack() as stack:
        url, _ = lost.enter_context(proxy(casd))
        client, _, tally = stack.enter_context(relayed(Remote(url), tmp_path))
        lost.close()
        with pytest.raises(CcError) as caught:
            client.call("get_result", message("GetActionResultRequest")())
        assert caught.value.code == "unreachable"
        assert (tally.known, tally.there) == (0, 0)
