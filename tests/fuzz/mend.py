"""Makes mutated texts plausible again: what a checksum would refuse at once tests nothing behind it."""

from __future__ import annotations

from collections.abc import Callable

from tests.builders.tars import with_checksum
from tests.fuzz.target import as_it_is

BLOCK = 512


def tar_headers(data: bytes, change: Callable[[bytes], bytes] = as_it_is) -> bytes:
    """`data` with `change` made to what tar would take for headers, one after the other, and right checksums."""
    blocks = bytearray(data[: len(data) // BLOCK * BLOCK])
    at = 0
    while at + BLOCK <= len(blocks):
        block = bytes(blocks[at : at + BLOCK])
        if block.strip(b"\0"):
            blocks[at : at + BLOCK] = with_checksum(change(block))
        at += BLOCK * (1 + -(-_size(block) // BLOCK))
    return bytes(blocks)


def _size(block: bytes) -> int:
    digits = block[124:136].strip(b"\0 ")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else 0
