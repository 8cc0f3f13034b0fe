"""Bytes without a known form: where they differ, in hexadecimal, and how much of them."""

from __future__ import annotations

import operator
from collections.abc import Iterator

from ccstore.compare.causes import of_bytes
from ccstore.compare.findings import Context, Data, Finding

CHUNK = 1 << 16
APART = 32  # equal bytes between two differences that are told apart
COUNTED = 32 << 20  # bytes of differing chunks that are counted one by one
BEFORE, SHOWN = 4, 20  # bytes of an excerpt


def explain(first: Data, second: Data, context: Context, begin: int = 0) -> Iterator[Finding]:
    """Every place from `begin` on where the two differ; of two that are not equally long only the first place."""
    for offset in spots(first, second):
        if offset < begin:
            continue
        causes = of_bytes(first, second, offset, context.circumstances)
        yield context.at(f"byte {offset:#x}").found(excerpt(first, offset), excerpt(second, offset), causes)
        if len(first) != len(second):
            return


def spots(first: Data, second: Data) -> Iterator[int]:
    """Where differences begin."""
    last = -APART - 1
    for start, one, other in _differing_chunks(first, second):
        for at in _differing(one, other):
            if start + at - last > APART:
                yield start + at
            last = start + at
    if len(first) != len(second):
        yield min(len(first), len(second))


def count(first: Data, second: Data) -> int | None:
    """How many bytes differ; None where the sizes do, or where counting would take too long."""
    if len(first) != len(second):
        return None
    total = seen = 0
    for _, one, other in _differing_chunks(first, second):
        total += sum(map(operator.ne, one, other))
        seen += len(one)
        if seen > COUNTED:
            return None
    return total


def _differing_chunks(first: Data, second: Data) -> Iterator[tuple[int, bytes, bytes]]:
    for start in range(0, min(len(first), len(second)), CHUNK):
        one, other = first[start : start + CHUNK], second[start : start + CHUNK]
        if one != other:
            yield start, one, other


def _differing(one: bytes, other: bytes) -> Iterator[int]:
    return (at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)


def excerpt(data: Data, offset: int) -> str:
    """Some bytes around `offset`, in hexadecimal and as text."""
    if offset >= len(data):
        return "(end of file)"
    piece = data[max(0, offset - BEFORE) : offset + SHOWN - BEFORE]
    text = "".join(chr(each) if 32 <= each < 127 else "." for each in piece)
    return f"{piece.hex(' ')}  |{text}|"
