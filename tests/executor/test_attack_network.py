"""A build that wants to reach somebody outside."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from .attacking import Attacks, outside, succeeded


@contextlib.contextmanager
def servers(place: Path) -> Iterator[tuple[int, int, str, Path]]:
    """Servers of the host: a port of its IPv4 and of its IPv6 loopback, an abstract socket, one with a path."""
    with contextlib.ExitStack() as stack:
        four = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        six = four
        if socket.has_ipv6:
            with contextlib.suppress(OSError):  # a host without
                six = stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        abstract = f"ccstore-{uuid4().hex}"
        for name in (f"\0{abstract}", str(place / "plug")):
            plug = stack.enter_context(socket.socket(socket.AF_UNIX))
            plug.bind(name)
            plug.listen()
        yield four.getsockname()[1], six.getsockname()[1], abstract, place / "plug"


def test_no_server_can_be_reached(attacks: Attacks) -> None:
    with servers(attacks.builds.place) as places:
        attacks.all_fail("network.reaches_out", *places, wanted=15)
        reached = succeeded(outside("network.reaches_out", *places))
    assert {"IPv4 loopback", "abstract socket", "socket with a path"} <= reached.keys()


def test_sockets_that_know_no_namespaces_cannot_be_had(attacks: Attacks) -> None:
    attacks.all_fail("network.other_families", wanted=19)


def test_the_network_cannot_be_changed(attacks: Attacks) -> None:
    done = attacks.all_fail("network.changes_the_network", wanted=6)
    assert "interfaces 0 1\n" in done.log  # no eth, one lo
