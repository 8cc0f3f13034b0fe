"""Known causes of a difference, found in the differing bytes themselves.

What was varied leaves its words: the first's host name here and the second's there is no accident. Dates, times and
unix times are known by their form and by when the two were made; the same words in another order by counting them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence

from ccstore.compare.findings import Circumstances, Data, Span, Trace

TIME = "time"
ORDER = "order"
RANDOM = "random identifier"
SLACK = 86400.0  # seconds that a build may be off from what is known of its time
EARLIEST = 978307200  # 2001: a smaller number is no time at which anything was built
REACH = 160  # bytes around a difference in which words are looked for

_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_DATES = re.compile(
    rf"\d{{4}}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?"
    rf"|{_MONTH} +\d{{1,2}}(?: +\d\d:\d\d:\d\d)?(?: +[A-Z]+)?(?:,? +\d{{4}})?"
    rf"|\d{{1,2}} {_MONTH} \d{{4}}"
    r"|(?<!\d)20\d\d[01]\d[0-3]\d(?:T?\d{4,6})?(?!\d)"
    r"|(?<!\d)\d\d:\d\d:\d\d(?!\d)"
)
_UNIX_TIME = re.compile(r"(?<!\d)(\d{10})(?:\d{3}|\d{6}|\d{9})?(?!\d)")
_UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_RANDOM = re.compile(rf"{_UUID}|\b(?:tmp\.|tmp_?|cc)[A-Za-z0-9_]{{6,10}}\b")
_SHORT = 4  # characters: a shorter word must stand alone

Region = tuple[int, int]


def of_texts(first: str, second: str, circumstances: Circumstances) -> tuple[str, ...]:
    """The causes of a difference between two lines, or two other pieces of text."""
    one, other = regions(first, second)
    found = [each.cause for each in circumstances.traces if _left(each, first, one, second, other)]
    if _are_times(first, one, second, other, circumstances):
        found.append(TIME)
    if _matches(_RANDOM, first, one) and _matches(_RANDOM, second, other):
        found.append(RANDOM)
    if not found and is_reordered(first, second):
        found.append(ORDER)
    return tuple(dict.fromkeys(found))


def regions(first: str, second: str) -> tuple[Region, Region]:
    """What lies between the common beginning and the common end."""
    begin, end = common_ends(first, second)
    return (begin, len(first) - end), (begin, len(second) - end)


def common_ends(first: Sequence[str], second: Sequence[str]) -> tuple[int, int]:
    """How many items both begin with, and how many of the others both end with."""
    shorter = min(len(first), len(second))
    begin = 0
    while begin < shorter and first[begin] == second[begin]:
        begin += 1
    end = 0
    while end < shorter - begin and first[-1 - end] == second[-1 - end]:
        end += 1
    return begin, end


def _left(trace: Trace, first: str, one: Region, second: str, other: Region) -> bool:
    pairs = zip(trace.first, trace.second, strict=True)
    return (
        any(_occurs(old, first, one) and _occurs(new, second, other) for old, new in pairs if old != new)
        or any(_occurs(word, first, one) for word in trace.only_first)
        or any(_occurs(word, second, other) for word in trace.only_second)
    )


def _occurs(word: str, text: str, region: Region) -> bool:
    """Whether `word` stands in `text` where it differs; numbers and short words must stand alone."""
    alone = word.isdigit() or len(word) < _SHORT
    pattern = rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])" if alone else re.escape(word)
    return _matches(re.compile(pattern), text, region)


def _matches(pattern: re.Pattern[str], text: str, region: Region) -> bool:
    return any(_touches(each.span(), region) for each in pattern.finditer(text))


def _touches(span: Region, region: Region) -> bool:
    return span[0] <= region[1] and region[0] <= span[1]


def _are_times(first: str, one: Region, second: str, other: Region, known: Circumstances) -> bool:
    if _matches(_DATES, first, one) and _matches(_DATES, second, other):
        return True
    old, new = list(_unix_times(first, one)), list(_unix_times(second, other))
    return any(_within(each, known.first_time) for each in old) and any(
        _within(each, known.second_time) for each in new
    )


def _unix_times(text: str, region: Region) -> Iterator[int]:
    for each in _UNIX_TIME.finditer(text):
        if _touches(each.span(), region):
            yield int(each[1])


def _within(moment: float, span: Span) -> bool:
    return max(span.begin - SLACK, EARLIEST) <= moment <= span.end + SLACK


def is_reordered(first: str, second: str) -> bool:
    """Whether both have the same words, or the same letters, in another order."""
    one, other = first.split(), second.split()
    if len(one) > 1 or len(other) > 1:
        return sorted(one) == sorted(other)
    return len(first) >= 6 and not first.isdigit() and sorted(first) == sorted(second)


def of_bytes(first: Data, second: Data, offset: int, circumstances: Circumstances) -> tuple[str, ...]:
    """The causes of a difference that begins at `offset`, by the text around it or by the number that is there."""
    one, other = _text_around(first, offset), _text_around(second, offset)
    if one and other and one != other:
        found = of_texts(one, other, circumstances)
        if found:
            return found
    return tuple(dict.fromkeys(_numbers(first, second, offset, circumstances)))


def _text_around(data: Data, offset: int) -> str:
    start = max(0, offset - REACH)
    window = data[start : offset + REACH].decode("latin-1")
    at = offset - start
    begin = end = at
    while begin > 0 and window[begin - 1].isprintable():
        begin -= 1
    while end < len(window) and window[end].isprintable():
        end += 1
    return window[begin:end]


def _numbers(first: Data, second: Data, offset: int, known: Circumstances) -> Iterator[str]:
    """A binary number around `offset` that is a time in both, or what a trace says of both."""
    for size, form in ((8, "Q"), (4, "I")):
        for start in range(max(0, offset - size + 1), offset + 1):
            pieces = first[start : start + size], second[start : start + size]
            if any(len(each) < size for each in pieces):
                continue
            for order in "<>":
                old, new = (struct.unpack(order + form, each)[0] for each in pieces)
                # any number could be a time if nothing is known of when
                dated = known.second_time.end < float("inf")
                if dated and _within(old, known.first_time) and _within(new, known.second_time):
                    yield TIME
                yield from _traced(old, new, known)


def _traced(old: int, new: int, known: Circumstances) -> Iterator[str]:
    for trace in known.traces:
        for one, other in zip(trace.first, trace.second, strict=True):
            # a small number is met with by accident
            if (
                one.isdecimal()
                and other.isdecimal()
                and int(one) > 255
                and (int(one), int(other)) == (old, new)
            ):
                yield trace.cause
