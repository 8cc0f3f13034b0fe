"""Signatures in Nix's text form, `<key name>:<base64 of 64 bytes>`.

Source: Nix manual, "Store path" and nix.conf, `trusted-public-keys`. Whether a signature is true is for
`ccstore.codec.signing` to say, which has the keys.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

SIZE = 64
_NAME = re.compile(r"[0-9A-Za-z+\-._?=@/]{1,255}")


@dataclass(frozen=True, slots=True, order=True)
class Signature:
    """What the key called `name` says of some bytes."""

    name: str
    value: bytes

    def __post_init__(self) -> None:
        check_key_name(self.name)
        if len(self.value) != SIZE:
            raise ValueError(f"a signature has {SIZE} bytes, not {len(self.value)}")

    @classmethod
    def parse(cls, text: str) -> Signature:
        """Raises ValueError for anything but the one text form of a signature."""
        return cls(*split(text))

    def __str__(self) -> str:
        return join(self.name, self.value)


def merged(first: tuple[Signature, ...], second: tuple[Signature, ...]) -> tuple[Signature, ...]:
    """Both, each once, in a fixed order."""
    return tuple(sorted({*first, *second}))


def check_key_name(name: str) -> None:
    """Raises ValueError if a key cannot be called `name`."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a key: 1 to 255 of A-Z a-z 0-9 + - . _ ? = @ / are allowed")


def join(name: str, data: bytes) -> str:
    return f"{name}:{base64.b64encode(data).decode()}"


def split(text: str) -> tuple[str, bytes]:
    """The name and the bytes of `<name>:<base64>`; raises ValueError unless `join` gives `text` again."""
    name, colon, encoded = text.partition(":")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: not ASCII
        raise ValueError(f"{name!r} is not followed by base64: {error}") from error
    if not colon or not name or join(name, data) != text:
        raise ValueError("not of the form <name>:<base64>")
    return name, data
