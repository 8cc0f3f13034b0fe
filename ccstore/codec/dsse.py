"""DSSE envelopes: a text, what it is, and who signed it.

Source: Dead Simple Signing Envelope 1.0 (protocol and envelope). What is signed is not the envelope but

    "DSSEv1" SP length(type) SP type SP length(text) SP text          lengths in decimal, of bytes

so nobody has to agree on how JSON is written. `keyid` is the name of a key of ours, the signature Ed25519.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ccstore.codec.signing import PublicKey, SecretKey, trusted
from ccstore.model.signature import Signature

MAX_SIZE = 64 << 20  # bytes
_URL_SAFE = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True)
class Envelope:
    """`payload_type` is a media type."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...] = ()

    def signed_bytes(self) -> bytes:
        """What the signatures are over (the specification's PAE)."""
        kind = self.payload_type.encode()
        return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(self.payload), self.payload)

    def signed(self, key: SecretKey) -> Envelope:
        """The envelope with the signature of `key` alone."""
        return Envelope(self.payload_type, self.payload, (key.sign(self.signed_bytes()),))

    def signature_of(self, keys: Iterable[PublicKey]) -> Signature | None:
        """The first signature that one of `keys` made; None if there is none."""
        return trusted(self.signatures, keys, self.signed_bytes())

    def encode(self) -> bytes:
        """One line of JSON, as in-toto's bundles (`.intoto.jsonl`) have them."""
        value = {
            "payloadType": self.payload_type,
            "payload": base64.b64encode(self.payload).decode(),
            "signatures": [
                {"keyid": each.name, "sig": base64.b64encode(each.value).decode()} for each in self.signatures
            ],
        }
        return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def decode(data: bytes) -> Envelope:
    """The envelope that `data` is; raises ValueError. Signatures in another form than ours are left out."""
    if len(data) > MAX_SIZE:
        raise ValueError(f"it has {len(data)} bytes, more than {MAX_SIZE}")
    try:
        value = json.loads(data)
        payload_type, signatures = value["payloadType"], value["signatures"]
        if not isinstance(payload_type, str) or not isinstance(signatures, list):
            raise ValueError("it is no DSSE envelope")
        payload = _bytes(value["payload"])
        return Envelope(payload_type, payload, tuple(_signatures(signatures)))
    except (KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise ValueError(f"it is no DSSE envelope: {error!r}") from error


def _signatures(values: list[Any]) -> Iterable[Signature]:
    for each in values:
        try:
            yield Signature(each.get("keyid", ""), _bytes(each["sig"]))
        except ValueError:
            continue  # of another kind of key, or without its name


def _bytes(text: str) -> bytes:
    """Either of the two alphabets of base64 will do."""
    return base64.b64decode(text.translate(_URL_SAFE), validate=True)
