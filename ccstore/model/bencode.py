"""Bencode: the canonical bytes under every hash that ccstore computes of its own values.

Source: BEP 3. Each value has exactly one encoding: keys are sorted as raw bytes, integers have no leading
zeros, strings carry their length. Text is UTF-8. The decoder refuses whatever the encoder would not write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Value = int | str | Sequence["Value"] | Mapping[str, "Value"]


def encode(value: Value) -> bytes:
    parts: list[bytes] = []
    _write(value, parts)
    return b"".join(parts)


def _write(value: Value, parts: list[bytes]) -> None:
    if isinstance(value, str):
        data = value.encode()
        parts.append(b"%d:" % len(data) + data)
    elif isinstance(value, bool):
        raise TypeError("bencode has no booleans: write 0 or 1")
    elif isinstance(value, int):
        parts.append(b"i%de" % value)
    elif isinstance(value, Mapping):
        parts.append(b"d")
        for key in sorted(value, key=str.encode):
            _write(key, parts)
            _write(value[key], parts)
        parts.append(b"e")
    else:
        parts.append(b"l")
        for item in value:
            _write(item, parts)
        parts.append(b"e")


def decode(data: bytes) -> Value:
    """The value that `data` encodes; raises ValueError for anything that is not canonical."""
    try:
        value, end = _read(data, 0)
    except (IndexError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not bencode: {error}") from error
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes follow the value")
    if encode(value) != data:
        raise ValueError("not the canonical encoding")
    return value


def _read(data: bytes, at: int) -> tuple[Value, int]:
    lead = data[at : at + 1]
    if lead == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1 : end]), end + 1
    if lead == b"l":
        return _read_list(data, at + 1)
    if lead == b"d":
        return _read_dict(data, at + 1)
    colon = data.index(b":", at)
    if not data[at:colon].isdigit():  # below zero it would lead back to what was read already
        raise ValueError("a string has no length")
    end = colon + 1 + int(data[at:colon])
    if end > len(data):
        raise ValueError("a string is cut short")
    return data[colon + 1 : end].decode(), end


def _read_list(data: bytes, at: int) -> tuple[Value, int]:
    items: list[Value] = []
    while data[at : at + 1] != b"e":
        item, at = _read(data, at)
        items.append(item)
    return items, at + 1


def _read_dict(data: bytes, at: int) -> tuple[Value, int]:
    items: dict[str, Value] = {}
    while data[at : at + 1] != b"e":
        key, at = _read(data, at)
        if not isinstance(key, str):
            raise ValueError("a key is not a string")
        items[key], at = _read(data, at)
    return items, at + 1
