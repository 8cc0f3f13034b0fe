"""Reaching anybody outside."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

from .attempt import attempt, call, main

FAMILIES = {"AX25": 3, "X25": 9, "KEY": 15, "PACKET": 17, "RDS": 21, "CAN": 29, "TIPC": 30, "BLUETOOTH": 31,
            "ALG": 38, "VSOCK": 40, "QIPCRTR": 42, "SMC": 43, "XDP": 44}  # fmt: skip
SIOCSIFFLAGS, SIOCBRADDBR, RTM_NEWLINK, RTM_GETLINK = 0x8914, 0x89A0, 16, 18


def reaches_out(tcp4: str, tcp6: str, abstract: str, path: str) -> None:
    """The arguments are servers of the host: two ports of its loopback, an abstract socket, one with a path."""
    attempt("IPv4 loopback", lambda: socket.create_connection(("127.0.0.1", int(tcp4)), 5))
    attempt("IPv6 loopback", lambda: socket.create_connection(("::1", int(tcp6)), 5))
    attempt("IPv4 elsewhere", lambda: socket.create_connection(("192.0.2.1", 80), 5))
    attempt("IPv6 elsewhere", lambda: socket.create_connection(("2001:db8::1", 80), 5))
    attempt(
        "IPv4 datagram",
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
    )
    attempt("IPv4 broadcast", _broadcast)
    attempt(
        "multicast",
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("224.0.0.251", 5353)),
    )
    attempt("a name", _resolved)
    attempt("abstract socket", lambda: socket.socket(socket.AF_UNIX).connect(f"\0{abstract}"))
    attempt(
        "abstract datagram",
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", f"\0{abstract}"),
    )
    attempt("socket with a path", lambda: socket.socket(socket.AF_UNIX).connect(path))
    for name in ("/run/systemd/notify", "/var/run/docker.sock", "/run/dbus/system_bus_socket", "/dev/log"):
        attempt(name, lambda: socket.socket(socket.AF_UNIX).connect(name))


def _broadcast() -> int:
    plug = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    return plug.sendto(b"x", ("255.255.255.255", 67))


def _resolved() -> object:
    try:
        return socket.getaddrinfo("deb.example.org", 80)
    except socket.gaierror as error:
        raise OSError(errno.EHOSTUNREACH, str(error)) from error


def other_families() -> None:
    for name, number in FAMILIES.items():
        attempt(f"AF_{name}", lambda: socket.socket(number, socket.SOCK_DGRAM))
    attempt("raw IPv4", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
    attempt("raw IPv6", lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58))
    attempt("socketpair of vsock", lambda: call(53, 40, 1, 0, bytes(8)))
    attempt("io_uring", lambda: call(425, 8, bytes(120)))
    attempt("tun", lambda: os.open("/dev/net/tun", os.O_RDWR))
    attempt("vhost", lambda: os.open("/dev/vhost-vsock", os.O_RDWR))


def changes_the_network() -> None:
    plug = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    attempt("loopback down", lambda: fcntl.ioctl(plug, SIOCSIFFLAGS, b"lo".ljust(16, b"\0") + bytes(24)))
    attempt("a bridge", lambda: fcntl.ioctl(plug, SIOCBRADDBR, b"br0".ljust(16, b"\0")))
    attempt("a new interface", lambda: _netlink(RTM_NEWLINK, 0x605))
    links = _netlink(RTM_GETLINK, 0x301)
    print(f"interfaces {links.count(b'eth')} {links.count(bytes(1) + b'lo' + bytes(1))}")
    attempt("forwarding", lambda: os.open("/proc/sys/net/ipv4/ip_forward", os.O_WRONLY))
    attempt("audit", lambda: _sent(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9)))
    attempt("events of devices", lambda: _heard(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)))


def _netlink(kind: int, flags: int) -> bytes:
    """One message about links; raises OSError for the error that is the answer."""
    plug = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    body = struct.pack("BxHiII", 0, 0, 0, 0, 0)
    plug.send(struct.pack("IHHII", 16 + len(body), kind, flags, 1, 0) + body)
    answer = plug.recv(65536)
    number = struct.unpack_from("i", answer, 16)[0]
    if struct.unpack_from("H", answer, 4)[0] == 2 and number:
        raise OSError(-number, os.strerror(-number))
    return answer


def _sent(plug: socket.socket) -> int:
    plug.send(struct.pack("IHHII", 16, 1000, 5, 1, 0))
    answer = plug.recv(4096)
    number = int(struct.unpack_from("i", answer, 16)[0])
    if number:
        raise OSError(-number, os.strerror(-number))
    return number


def _heard(plug: socket.socket) -> bytes:
    plug.bind((0, 1))
    plug.settimeout(0.2)
    return plug.recv(4096)


if __name__ == "__main__":
    main(globals())
