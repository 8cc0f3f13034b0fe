"""Frames of the hyperstart protocol: bytes as the published header describes them, and properties for all others."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccstore.codec import hyper
from ccstore.codec.hyper import Chunk, ChunkDecoder, Code, Message, MessageDecoder
from ccstore.errors import CcError

messages = st.builds(Message, st.sampled_from(list(Code)), st.binary(max_size=300))
chunks = st.builds(Chunk, st.integers(0, 2**64 - 1), st.binary(max_size=300))


def test_frames_are_these_bytes() -> None:
    assert Message(Code.READY).encode() == b"\0\0\0\x08\0\0\0\x08"
    assert Message(Code.NEXT, b"\0\0\0\x14").encode() == b"\0\0\0\x0e\0\0\0\x0c\0\0\0\x14"
    assert Chunk(0x0102030405060708, b"hi").encode() == b"\1\2\3\4\5\6\7\x08\0\0\0\x0ehi"
    assert Chunk(1).encode() == b"\0\0\0\0\0\0\0\1\0\0\0\x0c"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


@settings(deadline=None)
@given(st.lists(messages, max_size=8), st.lists(st.integers(0), max_size=30))
def test_messages_survive_any_chunking(sent: list[Message], places: list[int]) -> None:
    decoder = MessageDecoder()
    data = b"".join(message.encode() for message in sent)
    assert [message for piece in cut(data, places) for message in decoder.feed(piece)] == sent
    decoder.finish()


@settings(deadline=None)
@given(st.lists(chunks, max_size=8), st.lists(st.integers(0), max_size=30))
def test_chunks_survive_any_chunking(sent: list[Chunk], places: list[int]) -> None:
    decoder = ChunkDecoder()
    data = b"".join(chunk.encode() for chunk in sent)
    assert [chunk for piece in cut(data, places) for chunk in decoder.feed(piece)] == sent
    decoder.finish()


@settings(deadline=None)
@given(st.lists(messages, min_size=1, max_size=3), st.data())
def test_a_stream_that_is_cut_short_is_noticed(sent: list[Message], data: st.DataObject) -> None:
    whole = b"".join(message.encode() for message in sent)
    last = len(sent[-1].encode())
    decoder = MessageDecoder()
    decoder.feed(whole[: len(whole) - data.draw(st.integers(1, last - 1))])
    with pytest.raises(CcError) as caught:
        decoder.finish()
    assert caught.value.code == "agent-protocol"


@pytest.mark.parametrize("kind", [MessageDecoder, ChunkDecoder])
@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(st.binary(max_size=200), max_size=20))
def test_garbage_is_frames_or_refused_and_never_stored(
    kind: type[MessageDecoder | ChunkDecoder], pieces: list[bytes]
) -> None:
    limit = 64
    decoder = kind(limit)
    for piece in pieces:
        code = None
        try:
            decoder.feed(piece)
        except CcError as error:
            code = error.code
        assert code in (None, "agent-protocol")
        assert len(decoder._frames._buffer) <= (limit if code is None else 0)


@pytest.mark.parametrize("length", [0, 7, hyper.CONTROL_LIMIT + 1, 2**32 - 1])
def test_a_control_frame_of_impossible_length_is_refused_at_its_header(length: int) -> None:
    decoder = MessageDecoder()
    header = hyper.CONTROL_HEADER.pack(Code.ACK, length)
    for _ in range(2):  # and nothing is taken from such a stream again
        with pytest.raises(CcError) as caught:
            decoder.feed(header)
        assert caught.value.code == "agent-protocol"
    with pytest.raises(CcError):
        decoder.finish()


@pytest.mark.parametrize("length", [0, 11, hyper.TERMINAL_LIMIT + 1, 2**32 - 1])
def test_a_terminal_frame_of_impossible_length_is_refused_at_its_header(length: int) -> None:
    with pytest.raises(CcError) as caught:
        ChunkDecoder().feed(hyper.TERMINAL_HEADER.pack(1, length))
    assert caught.value.code == "agent-protocol"


@pytest.mark.parametrize("number", [2, 3, 5, 7, 13, 26, 2**32 - 1])
def test_codes_that_are_none_are_refused(number: int) -> None:
    with pytest.raises(CcError) as caught:
        MessageDecoder().feed(hyper.CONTROL_HEADER.pack(number, 8))
    assert caught.value.code == "agent-protocol"


@pytest.mark.parametrize("body", [b"", b"\0\0\0", b"\0\0\0\1\0"])
def test_a_number_is_four_bytes(body: bytes) -> None:
    assert Message(Code.NEXT, b"\0\0\x01\0").number == 256
    with pytest.raises(CcError) as caught:
        _ = Message(Code.NEXT, body).number
    assert caught.value.code == "agent-protocol"


def test_what_is_too_large_is_not_sent() -> None:
    with pytest.raises(CcError) as caught:
        Message(Code.WRITEFILE, bytes(hyper.CONTROL_LIMIT)).encode()
    assert caught.value.code == "agent-protocol"


@settings(deadline=None)
@given(st.binary(max_size=3000))
def test_input_is_cut_into_frames_that_the_agent_keeps(data: bytes) -> None:
    pieces = list(hyper.input_chunks(5, data))
    assert b"".join(piece.data for piece in pieces) == data
    assert all(0 < len(piece.data) <= 512 and piece.stream == 5 for piece in pieces)
