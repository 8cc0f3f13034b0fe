"""DSSE envelopes, against the specification's own example and in-toto's own library."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ccstore.codec import dsse
from ccstore.codec.signing import PublicKey, SecretKey

KEY = SecretKey("cache.example-1", bytes(range(32)))
OTHER = SecretKey("cache.example-1", bytes(32))
TYPE, TEXT = "http://example.com/HelloWorld", b"hello world"
ENVELOPE = dsse.Envelope(TYPE, TEXT).signed(KEY)


def test_what_is_signed_is_the_specifications_example() -> None:
    assert ENVELOPE.signed_bytes() == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_another_library_verifies_it() -> None:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

    key = SSlibKey(KEY.name, "ed25519", "ed25519", {"public": KEY.public.value.hex()})
    found = Envelope.from_dict(json.loads(ENVELOPE.encode()))
    assert found.verify([key], 1).keys() == {KEY.name}


def test_it_is_read_again() -> None:
    found = dsse.decode(ENVELOPE.encode())
    assert found == ENVELOPE
    signature = found.signature_of([OTHER.public, KEY.public])
    assert signature is not None
    assert signature.name == KEY.name


@pytest.mark.parametrize("key", [OTHER.public, PublicKey("another", KEY.public.value)])
def test_another_key_is_none(key: PublicKey) -> None:
    assert ENVELOPE.signature_of([key]) is None


@pytest.mark.parametrize(
    "change", [{"payload": base64.b64encode(b"hello").decode()}, {"payloadType": "other"}]
)
def test_what_was_changed_is_not_signed(change: dict[str, str]) -> None:
    value = json.loads(ENVELOPE.encode()) | change
    assert dsse.decode(json.dumps(value).encode()).signature_of([KEY.public]) is None


def test_the_other_alphabet_of_base64_will_do() -> None:
    envelope = dsse.Envelope(TYPE, b"\xfb\xff\xfe").signed(KEY)
    text = envelope.encode().decode().replace("+", "-").replace("/HelloWorld", "HELLO").replace("/", "_")
    text = text.replace("HELLO", "/HelloWorld").replace("http:__", "http://").replace("com_", "com/")
    assert dsse.decode(text.encode()) == envelope


def test_signatures_of_other_kinds_are_left_out() -> None:
    value = json.loads(ENVELOPE.encode())
    value["signatures"] += [{"sig": "AAAA"}, {"keyid": "x", "sig": "AAAA"}, {"keyid": "", "sig": "!"}]
    assert dsse.decode(json.dumps(value).encode()) == ENVELOPE


FIELDS: dict[str, Any] = {"payloadType": "a", "payload": "", "signatures": []}
NONE: list[dict[str, Any]] = [
    {"payloadType": 1},
    {"signatures": {}},
    {"signatures": [1]},
    {"payload": 1},
    {"payload": "a"},
]


@pytest.mark.parametrize(
    "text", ["", "[]", "1", "{}", "[" * 5000, *(json.dumps(FIELDS | each) for each in NONE)]
)
def test_what_is_no_envelope(text: str) -> None:
    assert dsse.decode(json.dumps(FIELDS).encode()).payload == b""
    with pytest.raises(ValueError):
        dsse.decode(text.encode())
