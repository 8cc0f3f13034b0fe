"""Kernels compiled on a cluster: what one build in the sandbox needs for that.

    make ──▶ compiler.sh ──▶ recc ──socket──▶ Relay ──remote:──▶ the service ──▶ workers

recc (of buildbox) makes an action of each compilation: the files that it reads, at the paths that they have in the
sandbox, and a command. Its root is the toolchain's tree, which is in the service's storage before the build begins
(the property `chrootRootDigest` of buildbox's runners), so what comes back has the bytes of a local compilation.

The sandbox has no network. What the build can reach is the relay's socket: the calls in PASSED, of one service, as
whoever ccstore is there. It does not learn a token or a certificate, and cannot write into the action cache. It can
read what it knows the digest of, and have anything run there that a worker runs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccstore.codec.reapi import CALLS, message
from ccstore.codec.recas import Storage
from ccstore.codec.rechannel import Remote
from ccstore.codec.reclient import Client
from ccstore.errors import CcError
from ccstore.executor import layout
from ccstore.executor.remote_tree import Blobs, toolchain_root
from ccstore.ports import BuildRequest, Cancel, Launcher, Tree

RECC = "usr/bin/recc"
MOST_SAID = 1 << 20  # bytes that are read of what a build says
PASSED = {f"/{CALLS[name][0]}": name for name in CALLS if name != "update_result"}
_CALLS_AT_ONCE = 8  # of one recc, at most
_MESSAGE = 16 << 20  # bytes of one, at most: four times what servers take


@dataclass
class Tally:
    """Where files were compiled: by the workers, long ago (the service knew the result), or here after all."""

    known: int = 0
    there: int = 0
    here: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"{self.there + self.known} files were compiled on the cluster ({self.known} were known there)"
        return f"{text}, {len(self.here)} here; the first: {self.here[0]}" if self.here else text


@contextmanager
def distributed(
    remote: Remote, recc: Tree, script: str, request: BuildRequest, folder: Path, cancel: Cancel
) -> Iterator[tuple[Launcher, Tally]]:
    """What `request` needs to compile on the service at `remote`; the tally is complete at the end. `folder` is an
    existing empty one. Raises `unreachable`, `auth-needed`, `remote-failed`, `remote-unfit`."""

    def check() -> None:
        if cancel.cancelled:
            raise CcError("interrupted", f"{request.label} was interrupted")

    tally, here = Tally(), folder / layout.COMPILED_HERE
    here.touch()
    with Client(remote) as client:
        blobs = Blobs()
        toolchain = toolchain_root(request.root, blobs)
        Storage(client).upload(blobs.sources, check)
        with _relay(client, folder / layout.SOCKET, request.cores * _CALLS_AT_ONCE, tally):
            digest = f"{toolchain.hash}/{toolchain.size}"
            yield Launcher(recc.path, folder, script, digest, client.instance), tally
    with here.open("rb") as said:
        tally.here = said.read(MOST_SAID).decode(errors="replace").splitlines()


@contextmanager
def _relay(client: Client, socket: Path, calls: int, tally: Tally) -> Iterator[None]:
    """Serves at `socket` what the service behind `client` answers."""
    import grpc

    options = [("grpc.max_receive_message_length", _MESSAGE), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(calls), options=options, maximum_concurrent_rpcs=2 * calls)
    server.add_generic_rpc_handlers((Relay(client, tally),))
    parent = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # the path of a socket must be short
        server.add_insecure_port(f"unix:/proc/self/fd/{parent}/{socket.name}")
        server.start()
        yield
    finally:
        server.stop(None).wait()
        os.close(parent)


class Relay:
    """A handler of gRPC's server that passes calls on as they are."""

    def __init__(self, client: Client, tally: Tally) -> None:
        self._client = client
        self._tally = tally
        self._lock = threading.Lock()

    def service(self, details: Any) -> Any:
        """gRPC's way to ask who handles a method; nobody does for those that are not passed on."""
        import grpc

        if details.method not in PASSED:
            return None
        return grpc.stream_stream_rpc_method_handler(self._passing(details.method))

    def _passing(self, method: str) -> Callable[[Iterator[bytes], Any], Iterator[bytes]]:
        import grpc

        def forward(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            answers = self._client.passed_on(method, requests)
            context.add_callback(answers.cancel)
            last = b""
            try:
                for last in answers:
                    yield last
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
            self._count(PASSED[method], last)

        return forward

    def _count(self, call: str, answer: bytes) -> None:
        known = call == "get_result" and message("ActionResult").FromString(answer).exit_code == 0
        there = call == "execute" and _compiled(answer)
        with self._lock:
            self._tally.known += known
            self._tally.there += there


def _compiled(operation: bytes) -> bool:
    """Whether an action came to a good end, by the last word of its operation."""
    response = message("ExecuteResponse")()
    found = message("google.longrunning.Operation").FromString(operation)
    return bool(
        found.response.Unpack(response) and response.status.code == 0 and response.result.exit_code == 0
    )
