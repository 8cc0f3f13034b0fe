"""The way from a build to a service that compiles for it, and what does not go through."""

from __future__ import annotations

import os
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
from ccstore.executor.layout import COMPILED_HERE, SOCKET
from ccstore.ports import Assistance, BuildRequest, Cancel, Launcher
from tests.certificates import certificate
from tests.cluster.proxy import proxy
from tests.nginx import needs_nginx

from .conftest import Builds, PlainTree
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


SEEN = """
cd /in/.cluster
for attempt in 'echo x >new' 'rm -f here' 'mv here there' 'ln -s /etc/passwd x' 'rm -f socket' 'chmod 777 .' \
    'echo x >>/in/.recc/usr/bin/recc' 'mkdir /in/.compilers/more'; do
    if sh -c "$attempt" 2>/dev/null; then echo "done: $attempt"; fi
done
echo lost x.c: a line >>here
test -S socket && echo a socket
sed -n 's/^ *\\([a-z0-9]*\\):.*/\\1/p' /proc/net/dev
echo "$RECC_SERVER $RECC_REMOTE_PLATFORM_chrootRootDigest ${PATH%%:*}"
env | grep -c TOKEN
echo x >$out
"""


def test_what_a_build_sees_of_it(builds: Builds) -> None:
    """A socket, a line to write, and as before no network."""
    folder, recc = builds.place / "cluster", builds.tree("recc", {"usr/bin/recc": "a program\n"})
    folder.mkdir()
    (folder / COMPILED_HERE).touch()
    with socket.socket(socket.AF_UNIX) as served:
        served.bind(os.path.relpath(folder / SOCKET))
        launcher = Launcher(recc.path, folder, "#!/bin/sh\n", "0" * 64 + "/1")
        done = builds.run(SEEN, assistance=Assistance(launcher=launcher))
    assert done.result.outcome == "built", done.log
    assert done.log.splitlines() == [
        "a socket",
        "lo",
        f"unix:/in/.cluster/socket {'0' * 64}/1 /in/.compilers",
        "0",
    ]
    assert (folder / COMPILED_HERE).read_text() == "lost x.c: a line\n"
    assert sorted(each.name for each in folder.iterdir()) == [COMPILED_HERE, SOCKET]
