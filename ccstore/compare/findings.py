"""What a comparison gives: plain values that a person or a program reads."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Data = bytes | mmap.mmap
What = Literal["content", "kind", "mode", "link", "missing", "added", "renamed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One place in a file where the two differ.

    `where` leads there from outside in (a member of an archive, a section, a symbol, a line, a byte); `first` and
    `second` are what is there, as text or as bytes in hexadecimal; `causes` is what is known to make it differ.
    """

    where: tuple[str, ...]
    first: str
    second: str
    causes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """One path that differs: `missing` is what only the first has, `added` what only the second has, `renamed` both.

    Sizes are in bytes, `changed` is how many bytes differ where both have the same size. There are more `findings` if
    `more` is set.
    """

    path: str
    what: What
    findings: tuple[Finding, ...] = ()
    first_size: int | None = None
    second_size: int | None = None
    changed: int | None = None
    more: bool = False

    @property
    def explained(self) -> bool:
        return bool(self.findings) and all(each.causes for each in self.findings)


@dataclass(frozen=True, slots=True)
class Trace:
    """Something that was otherwise when the second was made, and the words that it leaves in the two.

    `first[i]` and `second[i]` are the same thing in one and in the other; words that only one of them can have stand
    in `only_first` and `only_second`.
    """

    cause: str
    first: tuple[str, ...] = ()
    second: tuple[str, ...] = ()
    only_first: tuple[str, ...] = ()
    only_second: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """When something was made, in unix time; what is not known is open."""

    begin: float = 0.0
    end: float = float("inf")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of how the two were made."""

    traces: tuple[Trace, ...] = ()
    first_time: Span = field(default_factory=Span)
    second_time: Span = field(default_factory=Span)


@dataclass(frozen=True, slots=True)
class Context:
    """Where an explanation is: the way there, the circumstances, how deep in archives, and the file's symbols."""

    circumstances: Circumstances
    where: tuple[str, ...] = ()
    depth: int = 0
    symbols: Mapping[int, str] = field(default_factory=dict)

    def at(self, *where: str) -> Context:
        return replace(self, where=(*self.where, *where))

    def inside(self, *where: str) -> Context:
        """One archive or layer deeper."""
        return replace(self, where=(*self.where, *where), depth=self.depth + 1)

    def found(self, first: str, second: str, causes: tuple[str, ...] = ()) -> Finding:
        return Finding(self.where, first, second, causes)


Explain = Callable[[Data, Data, Context], Iterator[Finding]]
