"""nix-base32, the text form of hashes in store paths and in narinfo files.

Source: Nix manual, "Store path"; the alphabet leaves out e, o, u and t, and the most significant digit comes
first while bits are taken from the end of the byte string.
"""

from __future__ import annotations

ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"
_VALUE = {char: value for value, char in enumerate(ALPHABET)}


def encoded_length(size: int) -> int:
    """How many characters `size` bytes take."""
    return (size * 8 + 4) // 5


def encode(data: bytes) -> str:
    number = int.from_bytes(data, "little")
    return "".join(ALPHABET[number >> (5 * i) & 31] for i in reversed(range(encoded_length(len(data)))))


def decode(text: str, size: int) -> bytes:
    """The `size` bytes that `text` stands for.

    Raises ValueError for a wrong length, a character outside the alphabet or spare bits that are not zero.
    """
    if len(text) != encoded_length(size):
        raise ValueError(f"{text!r} has {len(text)} characters, {size} bytes take {encoded_length(size)}")
    number = 0
    for char in text:
        if char not in _VALUE:
            raise ValueError(f"{char!r} is not a nix-base32 character")
        number = number << 5 | _VALUE[char]
    if number >> (size * 8):
        raise ValueError(f"{text!r} has bits beyond {size} bytes")
    return number.to_bytes(size, "little")
