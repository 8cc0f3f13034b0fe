"""Text: the lines that differ, and whether they are the same lines in another order."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from ccstore.compare.causes import ORDER, common_ends, of_texts, regions
from ccstore.compare.findings import Context, Data, Finding

LARGEST = 64 << 20  # bytes: what is longer is compared as bytes
MATCHED = 2000  # lines between the common beginning and end that are matched with one another
LONGEST = 300  # characters of a line that are shown
BEFORE = 80  # of them before the first that differs
NOTHING = "(nothing)"


def is_text(data: Data) -> bool:
    if len(data) > LARGEST or b"\0" in data[:4096]:
        return False
    whole = data[:]
    try:
        whole.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in whole


def explain(first: Data, second: Data, context: Context) -> Iterator[Finding]:
    one, other = first[:].decode().split("\n"), second[:].decode().split("\n")
    start, end = common_ends(one, other)
    old, new = one[start : len(one) - end], other[start : len(other) - end]
    if len(old) > 1 and sorted(old) == sorted(new):
        where = context.at(f"lines {start + 1} to {start + len(old)}")
        yield where.found(*shown(old[0], new[0]), (ORDER,))
        return
    for at, before, after in _pairs(old, new):
        causes = of_texts(before or "", after or "", context.circumstances)
        yield context.at(f"line {start + at + 1}").found(*shown(before, after), causes)


def _pairs(old: list[str], new: list[str]) -> Iterator[tuple[int, str | None, str | None]]:
    """Lines that correspond, with the place of the first's; None for one that has none."""
    if len(old) == len(new) or max(len(old), len(new)) > MATCHED:
        for at in range(max(len(old), len(new))):
            before, after = _line(old, at), _line(new, at)
            if before != after:
                yield at, before, after
        return
    for kind, low, high, new_low, new_high in difflib.SequenceMatcher(None, old, new, False).get_opcodes():
        for at in range(0 if kind == "equal" else max(high - low, new_high - new_low)):
            yield low + at, _line(old[low:high], at), _line(new[new_low:new_high], at)


def _line(lines: list[str], at: int) -> str | None:
    return lines[at] if at < len(lines) else None


def shown(first: str | None, second: str | None) -> tuple[str, str]:
    """Two lines as a person reads them: of long ones the part that differs."""
    begin = max(0, regions(first or "", second or "")[0][0] - BEFORE)
    return _part(first, begin), _part(second, begin)


def _part(line: str | None, begin: int) -> str:
    if line is None:
        return NOTHING
    if len(line) <= LONGEST:
        return line
    return (
        f"{'…' if begin else ''}{line[begin : begin + LONGEST]}{'…' if begin + LONGEST < len(line) else ''}"
    )
