"""Two trees, or two files: which paths differ, and for each where and why.

What the trees hold is known from their manifests, so only files that differ are read. Each is taken apart as far as
its form is known (`_KINDS`), from outside in, down to a line, a symbol or a byte.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath

from ccstore.compare import blobs, elf, images, kernels, layers, members, text
from ccstore.compare.causes import of_texts
from ccstore.compare.findings import Circumstances, Context, Data, Difference, Explain, Finding
from ccstore.model.objects import Entry

DEEPEST = 8  # archives and layers in one another
MOST_FINDINGS = 8  # of one file
MOST_FILES = 40  # that are taken apart; of the rest only the names are told
MOST_PAIRS = 16  # files of one folder that bear other names in the two trees
SYMBOLS = "System.map"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: where it lies, and what is in it by path."""

    path: Path
    entries: Mapping[str, Entry]

    @classmethod
    def of(cls, path: Path, entries: Iterable[Entry]) -> Side:
        return cls(path, {each.path: each for each in entries})

    def read(self, name: str) -> Data:
        """A file's content; no link is followed. Raises OSError."""
        descriptor = os.open(self.path / name if name else self.path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            if not os.fstat(descriptor).st_size:
                return b""
            return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)


def compare(first: Side, second: Side, circumstances: Circumstances) -> list[Difference]:
    """Everything that differs, by path. Raises OSError."""
    found = list(_compare_entries(first.entries, second.entries))
    renamed = dict(islice(_renamed(found), MOST_PAIRS))
    new_names = set(renamed.values())
    found = [each for each in found if each.what != "added" or each.path not in new_names]
    files = [each.path for each in found if each.what == "content" or each.path in renamed][:MOST_FILES]
    sides = first, second
    return [
        _explained(each, renamed.get(each.path), *sides, circumstances) if each.path in files else each
        for each in found
    ]


def _compare_entries(first: Mapping[str, Entry], second: Mapping[str, Entry]) -> Iterator[Difference]:
    for path in sorted({*first, *second}, key=os.fsencode):
        one, other = first.get(path), second.get(path)
        if one is None or other is None:
            here = one or other
            size = here.size if here and here.type == "file" else None
            yield (
                Difference(path, "missing", first_size=size)
                if one
                else Difference(path, "added", second_size=size)
            )
        elif one.type != other.type:
            yield Difference(path, "kind", (Finding((), one.type, other.type),))
        elif one.target != other.target:
            yield Difference(path, "link", (Finding((), one.target, other.target),))
        elif one.sha256 != other.sha256:
            yield Difference(path, "content", first_size=one.size, second_size=other.size)
        elif one.executable != other.executable:
            words = {True: "executable", False: "not executable"}
            yield Difference(path, "mode", (Finding((), words[one.executable], words[other.executable]),))


def _renamed(found: list[Difference]) -> Iterator[tuple[str, str]]:
    """Files of one folder that bear other names, as a blob named by its digest does: paired by size."""
    folders: dict[PurePosixPath, tuple[list[Difference], list[Difference]]] = {}
    for each in found:
        if each.what in ("missing", "added") and (each.first_size, each.second_size) != (None, None):
            sides = folders.setdefault(PurePosixPath(each.path).parent, ([], []))
            sides[each.what == "added"].append(each)
    for missing, added in folders.values():
        if len(missing) == len(added):
            for one, other in zip(sorted(missing, key=_size), sorted(added, key=_size), strict=True):
                yield one.path, other.path


def _size(difference: Difference) -> int:
    return difference.first_size or difference.second_size or 0


def _explained(
    difference: Difference, new_name: str | None, first: Side, second: Side, circumstances: Circumstances
) -> Difference:
    path = difference.path
    one, other = first.read(path), second.read(new_name or path)
    context = Context(circumstances, symbols=_symbols(first, path))
    found = list(_name_findings(path, new_name, context)) if new_name else []
    if one[:] != other[:]:
        found += islice(explain(one, other, context), MOST_FINDINGS + 1)
    return replace(
        difference,
        what="renamed" if new_name else "content",
        findings=tuple(found[:MOST_FINDINGS]),
        first_size=len(one),
        second_size=len(other),
        changed=blobs.count(one, other),
        more=len(found) > MOST_FINDINGS,
    )


def _name_findings(path: str, new_name: str, context: Context) -> Iterator[Finding]:
    yield context.at("name").found(path, new_name, of_texts(path, new_name, context.circumstances))


def _symbols(side: Side, path: str) -> dict[int, str]:
    """The symbols of a stripped kernel, from the System.map beside it."""
    beside = str(PurePosixPath(path).with_name(SYMBOLS)) if path else ""
    if beside not in side.entries or side.entries[beside].type != "file":
        return {}
    lines = (line.split() for line in side.read(beside)[:].decode("latin-1").splitlines())
    return {int(words[0], 16): words[2] for words in lines if len(words) == 3 and _is_hexadecimal(words[0])}


def _is_hexadecimal(word: str) -> bool:
    return all(each in "0123456789abcdef" for each in word)


def explain(first: Data, second: Data, context: Context) -> Iterator[Finding]:
    """Where two different files differ, by the first kind that has something to say."""
    for kind in _KINDS if context.depth < DEEPEST else ():
        nothing = True
        for finding in kind(first, second, context):
            nothing = False
            yield finding
        if not nothing:
            return
    as_text = text.is_text(first) and text.is_text(second)
    yield from (text.explain if as_text else blobs.explain)(first, second, context)


_KINDS: tuple[Explain, ...] = (
    layers.explain(explain),
    members.explain(explain),
    kernels.explain(explain),
    elf.explain,
    images.explain,
)
