"""The client against an agent that says what no agent should: a thread at the other end of the two channels."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccstore.codec.hyper import Chunk, ChunkDecoder, Code, Message, MessageDecoder
from ccstore.errors import CcError
from ccstore.guest import agent_bodies as bodies
from ccstore.guest.agent import Agent
from ccstore.guest.agent_bodies import Container, Pod, Process
from ccstore.guest.agent_control import WINDOW

READY = Message(Code.READY).encode()
ACK = Message(Code.ACK).encode()
PROCESS = Process(("/bin/true",), "p0")
CONTAINER = Container("c0", PROCESS, "image")
PATIENCE = 20.0


def taken(count: int) -> bytes:
    return Message(Code.NEXT, count.to_bytes(4, "big")).encode()


def finished(status: object, process: str = "p0") -> bytes:
    event = {"container": "c0", "process": process, "event": "finished", "status": status}
    return Message(Code.PROCESSASYNCEVENT, json.dumps(event).encode()).encode()


class Peer:
    """The guest's ends. Gives NEXT for what it reads, and what `answer` makes of each command."""

    def __init__(self, answer: Callable[[Message], Iterable[bytes]], greeting: bytes) -> None:
        self.control, self.ours = socket.socketpair()
        self.terminal, self.our_terminal = socket.socketpair()
        self.answer = answer
        self.heard: list[Message] = []
        self.control.sendall(greeting)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        decoder = MessageDecoder()
        with contextlib.suppress(OSError):
            while data := self.control.recv(1000):
                self.control.sendall(taken(len(data)))
                for message in decoder.feed(data):
                    self.heard.append(message)
                    for piece in self.answer(message):
                        self.control.sendall(piece)

    def close(self) -> None:
        for each in (self.control, self.ours, self.terminal, self.our_terminal):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.thread.join()


@contextlib.contextmanager
def agent(
    answer: Callable[[Message], Iterable[bytes]] = lambda message: [ACK],
    *,
    greeting: bytes = READY,
    reply_timeout: float = PATIENCE,
) -> Iterator[tuple[Agent, Peer]]:
    peer = Peer(answer, greeting)
    try:
        with Agent.attach(
            peer.ours, peer.our_terminal, timeout=PATIENCE, reply_timeout=reply_timeout
        ) as client:
            yield client, peer
    finally:
        peer.close()


@pytest.mark.parametrize(
    "greeting",
    [ACK + READY, taken(8) + READY, finished(0) + READY, b"\r\nno frame", b"\0\0\0\x08\x7f\0\0\0", READY[:5]],
)
def test_what_comes_before_ready_is_no_agent(greeting: bytes) -> None:
    peer = Peer(lambda message: [], greeting)
    peer.control.shutdown(socket.SHUT_WR)
    with pytest.raises(CcError) as caught:
        Agent.attach(peer.ours, peer.our_terminal, timeout=PATIENCE)
    assert caught.value.code == "agent-protocol"
    peer.close()


def test_silence_and_absence_before_ready() -> None:
    peer = Peer(lambda message: [], b"")
    with pytest.raises(CcError) as caught:
        Agent.attach(peer.ours, peer.our_terminal, timeout=0.1)
    assert caught.value.code == "agent-not-ready"
    peer.control.shutdown(socket.SHUT_WR)
    with pytest.raises(CcError) as caught:
        Agent.attach(peer.ours, peer.our_terminal, timeout=PATIENCE)
    assert caught.value.code == "agent-gone"
    peer.close()


@pytest.mark.parametrize(
    "said",
    [
        READY,
        ACK + ACK,
        taken(1),
        Message(Code.NEXT, b"\0").encode(),
        Message(Code.PING).encode(),
        Message(Code.PROCESSASYNCEVENT, b"{}").encode(),
        Message(Code.PROCESSASYNCEVENT, b"[" * 100_000).encode(),
        Message(Code.PROCESSASYNCEVENT, b'{"container":[],"process":"p0","status":0}').encode(),
        finished(256),
        finished(-1),
        finished("0"),
        finished(1e999),
    ],
)
def test_what_no_agent_says_ends_the_connection(said: bytes) -> None:
    with agent(lambda message: [said]) as (client, _):
        with pytest.raises(CcError) as caught:
            ping_twice(client)
        assert caught.value.code == "agent-protocol"
        with pytest.raises(CcError) as caught:
            client.ping()
        assert caught.value.code == "agent-protocol"


def ping_twice(client: Agent) -> None:
    """What comes after a reply may only be noticed by the next command."""
    client.ping()
    client.ping()


def test_refusals_carry_the_agents_words() -> None:
    error = Message(Code.ERROR, b"no such \xff container\0\0").encode()
    with agent(lambda message: [error]) as (client, _):
        with pytest.raises(CcError, match=r"no such \\xff container") as caught:
            client.kill("c0")
        assert caught.value.code == "agent-error"


def test_a_late_reply_is_not_the_next_commands() -> None:
    held = threading.Event()

    def answer(message: Message) -> Iterator[bytes]:
        if message.code is Code.PING:
            held.wait(PATIENCE)
            yield Message(Code.ERROR, b"late").encode()
        else:
            yield Message(Code.ACK, (4244).to_bytes(4, "big")).encode()

    with agent(answer) as (client, _):
        with pytest.raises(CcError) as caught:
            client.ping(timeout=0.1)
        assert caught.value.code == "agent-timeout"
        held.set()
        assert client.version() == 4244


def test_commands_of_many_threads_get_their_own_replies() -> None:
    def answer(message: Message) -> Iterator[bytes]:
        yield Message(Code.ACK, json.loads(message.body)["file"].encode()).encode()

    wrong: list[str] = []

    def ask(client: Agent, name: str) -> None:
        for number in range(50):
            if client.read_file("c0", f"{name}{number}") != f"{name}{number}".encode():
                wrong.append(name)

    with agent(answer) as (client, _):
        threads = [threading.Thread(target=ask, args=(client, name)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_no_more_than_a_window_is_on_its_way() -> None:
    ours, theirs = socket.socketpair()
    terminal, their_terminal = socket.socketpair()
    theirs.sendall(READY)
    with Agent.attach(ours, terminal, timeout=PATIENCE, reply_timeout=0.3) as client:
        with pytest.raises(CcError) as caught:
            client.write_file("c0", "/large", bytes(20 * WINDOW))
        assert caught.value.code == "agent-timeout"
        assert len(theirs.recv(1 << 20)) == WINDOW
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
        with pytest.raises(
            CcError
        ) as caught:  # half a frame was written: the rest would be taken for another
            client.ping()
        assert caught.value.code == "agent-timeout"
    for each in (ours, theirs, terminal, their_terminal):
        each.close()


def test_a_large_file_goes_in_windows() -> None:
    data = bytes(range(256)) * 1000
    with agent() as (client, peer):
        client.write_file("c0", "/a}b", data)
        [message] = peer.heard
    assert message.body == b'{"container":"c0","file":"/a\\u007db"}' + data


def test_whoever_waits_is_told_when_the_agent_goes() -> None:
    with agent() as (client, peer):
        running = client.new_container(CONTAINER, print, print)
        timer = threading.Timer(0.1, peer.control.shutdown, (socket.SHUT_RDWR,))
        timer.start()
        with pytest.raises(CcError) as caught:
            client.wait(running)
        assert caught.value.code == "agent-gone"
        timer.join()
        client.destroy_pod(PATIENCE)  # that it is gone is what was wanted


def test_the_last_output_is_kept_when_the_machine_ends_with_the_process() -> None:
    heard = bytearray()
    with agent() as (client, peer):
        running = client.new_container(CONTAINER, heard.extend, heard.extend)
        peer.control.sendall(finished(3))
        peer.control.shutdown(socket.SHUT_WR)
        time.sleep(0.05)
        peer.terminal.sendall(
            Chunk(running.stdio, b"last ").encode() + Chunk(running.stderr, b"words").encode()
        )
        peer.terminal.shutdown(socket.SHUT_WR)
        assert client.wait(running, PATIENCE) == 3
    assert heard == b"last words"


@pytest.mark.parametrize(
    "said", [Chunk(99, b"x").encode(), Chunk(1 << 63 | 9).encode(), b"\r\n no frame at all"]
)
def test_a_terminal_channel_that_makes_no_sense_is_told(said: bytes) -> None:
    with agent(lambda message: [ACK, finished(0)] if message.code is Code.NEWCONTAINER else [ACK]) as (
        client,
        peer,
    ):
        running = client.new_container(CONTAINER, print, print)
        peer.terminal.sendall(said)
        with pytest.raises(CcError) as caught:
            client.wait(running, PATIENCE)
        assert caught.value.code == "agent-protocol"


def test_input_goes_in_small_frames_and_waits_for_the_answer() -> None:
    with agent() as (client, peer):
        running = client.new_container(CONTAINER, print, print)
        writer = threading.Thread(target=client.write, args=(running, bytes(2000)))
        writer.start()
        decoder, sent = ChunkDecoder(), 0
        while sent < 2000:
            for chunk in decoder.feed(peer.terminal.recv(1 << 16)):
                sent += len(chunk.data)
                assert len(chunk.data) <= 512
                if chunk.stream != running.stdio:
                    assert sent <= 2000
                    time.sleep(0.02)
                    peer.terminal.setblocking(False)
                    with pytest.raises(BlockingIOError):  # nothing more before the answer
                        peer.terminal.recv(1)
                    peer.terminal.setblocking(True)
                    peer.terminal.sendall(chunk.encode())
        answer_all(peer, decoder, writer)


def answer_all(peer: Peer, decoder: ChunkDecoder, writer: threading.Thread) -> None:
    """Answers probes until the writer is done; one may have been sent again."""
    peer.terminal.settimeout(0.02)
    while writer.is_alive():
        with contextlib.suppress(TimeoutError):
            for chunk in decoder.feed(peer.terminal.recv(1 << 16)):
                peer.terminal.sendall(chunk.encode())


def test_a_forgotten_answer_is_asked_for_again() -> None:
    with agent() as (client, peer):
        running = client.new_container(CONTAINER, print, print)
        writer = threading.Thread(target=client.write, args=(running, b"x"))
        writer.start()
        decoder, probes = ChunkDecoder(), 0
        while probes < 3:
            chunks = decoder.feed(peer.terminal.recv(1 << 16))
            probes += sum(chunk.stream != running.stdio for chunk in chunks)
        answer_all(peer, decoder, writer)


def test_a_second_pod_and_a_second_process_of_one_name_never_reach_the_agent() -> None:
    with agent() as (client, peer):
        client.start_pod(Pod("pod0"))
        client.new_container(CONTAINER, print, print)
        before = len(peer.heard)
        for attempt in (
            lambda: client.start_pod(Pod("pod0")),
            lambda: client.exec("c0", PROCESS, print, print),
        ):
            with pytest.raises(CcError) as caught:
                attempt()
            assert caught.value.code == "agent-error"
        assert len(peer.heard) == before


def test_numbers_of_streams_are_never_used_twice() -> None:
    with agent() as (client, _):
        numbers = []
        for number in range(20):
            running = client.exec("c0", Process(("x",), f"p{number}", terminal=number % 3 == 0), print, print)
            numbers += [running.stdio, running.stderr]
    used = [number for number in numbers if number]
    assert len(set(used)) == len(used) == 33


def test_the_end_of_a_pod_is_bounded_and_kills_first() -> None:
    def answer(message: Message) -> Iterator[bytes]:
        if message.code is Code.KILLCONTAINER:
            yield Message(Code.ERROR, b"no such process\0").encode()
        elif message.code is not Code.DESTROYPOD:
            yield ACK

    with agent(answer) as (client, peer):
        client.new_container(CONTAINER, print, print)
        with pytest.raises(CcError) as caught:
            client.destroy_pod(0.2)
        assert caught.value.code == "agent-timeout"
        assert [message.code for message in peer.heard] == [Code.NEWCONTAINER, Code.KILLCONTAINER]
        peer.control.sendall(finished(0))
        with pytest.raises(CcError) as caught:
            client.destroy_pod(0.2)
        assert caught.value.code == "agent-timeout"
        assert peer.heard[-1].code is Code.DESTROYPOD


def test_bodies_are_what_was_seen_to_work() -> None:
    pod = Pod(
        "pod0",
        bodies.SHARE_TAG,
        (bodies.Interface("eth0", (bodies.Address("10.0.2.15", 24),)),),
        (bodies.Route("default", "10.0.2.2", "eth0"),),
    )
    assert pod.body() == {
        "hostname": "pod0",
        "shareDir": "hyperShared",
        "interfaces": [{"device": "eth0", "ipAddresses": [{"ipAddress": "10.0.2.15", "netMask": "24"}]}],
        "routes": [{"dest": "default", "gateway": "10.0.2.2", "device": "eth0"}],
        "containers": [],
    }
    process = Process(("/bin/sh", "-c", "echo hi"), "p0", (("PATH", "/bin"),))
    said = bodies.encode(Container("c0", process, "img0").body(1, 2))
    assert said == (
        b'{"id":"c0","rootfs":"rootfs","image":"img0","process":{"id":"p0","terminal":false,"stdio":1,"stderr":2,'
        b'"args":["/bin/sh","-c","echo hi"],"envs":[{"env":"PATH","value":"/bin"}],"workdir":"/"},'
        b'"initialize":false,"readOnly":false}'
    )


def test_words_that_are_no_utf8_pass_as_they_are() -> None:
    words = b"\xff\xc3\xbc".decode("utf-8", "surrogateescape")
    assert bodies.encode({"args": [words]}) == b'{"args":["\xff\xc3\xbc"]}'


@settings(deadline=None)
@given(
    st.text(max_size=150).filter(lambda text: "\0" not in text and len(text.encode("utf-8", "replace")) < 190)
)
def test_the_head_of_a_file_ends_at_its_first_brace(name: str) -> None:
    body = bodies.file_body("c0", name)
    assert body.index(b"}") == len(body) - 1
    assert json.loads(body) == {"container": "c0", "file": name}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pod(""),
        lambda: Pod("a" * 64),
        lambda: Pod('a","x'),
        lambda: Process((), "p0"),
        lambda: Process(("",), "p0"),
        lambda: Process(("a\0b",), "p0"),
        lambda: Process(("a",), "../p0"),
        lambda: Process(("a",), "p" * 65),
        lambda: Container("c/0", PROCESS, "image"),
        lambda: Container("c0", PROCESS, "i" * 201),
        lambda: bodies.file_body("c0", "/" + "ü" * 100),
    ],
)
def test_what_the_agent_could_not_bear_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(CcError) as caught:
        make()
    assert caught.value.code == "usage"
