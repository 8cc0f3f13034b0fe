"""Two targets, realisations or store paths side by side (`ccstore diff`).

What they were made from is compared as `why` does it, what they are by their files: which came, went and changed, the
symbols of a kernel's configuration, and the sizes of sections and symbols of what was linked.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ccstore.build.workspace import Workspace
from ccstore.errors import CcError
from ccstore.explain import elf, leaves
from ccstore.explain.changes import Change, changes
from ccstore.explain.leaves import File, Files
from ccstore.explain.recorded import recorded
from ccstore.explain.texts import Difference, differences, is_config, symbols
from ccstore.explain.why import current_files, kept_files
from ccstore.model.lineage import Lineage, Origin
from ccstore.model.realisation import OutputId
from ccstore.model.storepath import LOGICAL_STORE, StorePath

MANY = 2000  # changed files: not all are looked into
MAP = "System.map"
_REALISATION = re.compile(r"([0-9a-f]{8,64})\^([A-Za-z0-9_-]+)")


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: its files and what it was made from, as far as they are here; `files_of` is for its leaves."""

    name: str
    files: Files | None
    lineage: Lineage | None
    files_of: Callable[[Origin], Files | None]
    path: StorePath | None = None


@dataclass(frozen=True, slots=True)
class Sized:
    """Something that has a size in bytes on either side, None where it is not there."""

    name: str
    old: int | None
    new: int | None

    @property
    def growth(self) -> int:
        return (self.new or 0) - (self.old or 0)


@dataclass(frozen=True, slots=True)
class FileDiff:
    """A file that is not the same: symbols of a config, sizes of sections and symbols that differ in an ELF file."""

    path: str
    old: int | None
    new: int | None
    config: tuple[Difference, ...] = ()
    sections: tuple[Sized, ...] = ()
    symbols: tuple[Sized, ...] = ()


@dataclass(frozen=True, slots=True)
class Diff:
    """`made` is None if what they were made from is not known, `files` if one of the two is not here."""

    made: tuple[Change, ...] | None
    files: tuple[FileDiff, ...] | None


def side(work: Workspace, text: str) -> Side:
    """What `text` names: a target, `<derivation id>^<output>` (8 digits will do), a store path, or any other path.

    Raises `recipe-unknown` and `not-found`.
    """
    found = _REALISATION.fullmatch(text)
    if found:
        return _of_realisation(work, text, _expand(work, found[1], found[2]))
    if "/" in text or _is_base(text):
        return _of_place(work, text)
    ref = work.graph.find(text)
    known = work.realised(ref)
    path = known.object.path if known else None
    files = leaves.of_object(work.store, path) if path else None
    return Side(text, files, work.lineage(ref), lambda origin: current_files(work, origin), path)


def _expand(work: Workspace, digits: str, output: str) -> OutputId:
    known = [each for each in work.store.database.facts() if each.output == output]
    found = [each for each in known if each.derivation.startswith(digits)]
    if len(found) == 1:
        return found[0]
    problem = f"{len(found)} realisations begin" if found else "no realisation begins"
    hint = "`ccstore show TARGET` says what a target's is"
    raise CcError("not-found", f"{problem} with {digits}", hint=hint)


def _of_realisation(work: Workspace, name: str, output: OutputId) -> Side:
    store = work.store
    known = store.realisations.get(output)
    path = known.object.path if known and store.objects.has(known.object.path) else None
    files = leaves.of_object(store, path) if path else None
    return Side(name, files, recorded(store, output), lambda origin: kept_files(store, origin), path)


def _is_base(text: str) -> bool:
    try:
        StorePath.parse(text)
    except ValueError:
        return False
    return True


def _of_place(work: Workspace, text: str) -> Side:
    """A store object, physical or logical, a file or folder in one, or anything else on this host."""
    store = work.store
    for top in (LOGICAL_STORE, str(store.root / "objects"), ""):
        inner = os.path.abspath(text).removeprefix(f"{top}/") if top else text  # noqa: PTH100
        base, _, rest = inner.partition("/")
        if not _is_base(base):
            continue
        path = StorePath.parse(base)
        if not store.objects.has(path):
            raise CcError("not-found", f"{base} is not in the store", hint="`ccstore realize` makes it")
        if rest:
            return _of_files(text, store.objects.path(path) / rest)
        makers = store.realisations.of_object(path)
        lineage = recorded(store, makers[0].id) if makers else None
        files = leaves.of_object(store, path)
        return Side(text, files, lineage, lambda origin: kept_files(store, origin), path)
    return _of_files(text, Path(text))


def _of_files(text: str, place: Path) -> Side:
    if not os.path.lexists(place):
        hint = "give a target, <derivation>^<output>, or a path"
        raise CcError("not-found", f"there is no {text}", hint=hint)
    return Side(text, leaves.of_place(place.resolve()), None, lambda _: None)


def diff(old: Side, new: Side) -> Diff:
    """What differs from `old` to `new`."""
    made = None
    if old.lineage and new.lineage:
        made = tuple(changes(old.lineage, new.lineage, old.files_of, new.files_of))
    if old.files is None or new.files is None:
        return Diff(made, None)
    before, after = old.files, new.files
    paths = [path for path in sorted({*before, *after}) if not _same(before.get(path), after.get(path))]
    look = len(paths) <= MANY
    return Diff(made, tuple(_file(path, before, after, look=look) for path in paths))


def _same(before: File | None, after: File | None) -> bool:
    return bool(before and after and (before.digest, before.kind) == (after.digest, after.kind))


def _file(path: str, before: Files, after: Files, *, look: bool) -> FileDiff:
    old, new = before.get(path), after.get(path)
    sizes = old.size if old else None, new.size if new else None
    if not (old and new and look):
        return FileDiff(path, *sizes)
    one, other = old.read(), new.read()
    if elf.is_elf(one) and elf.is_elf(other):
        with contextlib.suppress(ValueError):  # damaged: its size is all that can be said
            sections = _sized(elf.section_sizes(one), elf.section_sizes(other))
            tables = (_symbols(path, before, one), _symbols(path, after, other))
            return FileDiff(path, *sizes, sections=sections, symbols=_sized(*tables))
    texts = old.text(), new.text()
    if texts[0] and texts[1] and is_config(texts[0]) and is_config(texts[1]) and symbols(texts[0]):
        found = tuple(each for each in differences(path, texts[0], texts[1]) if each.unit == "symbol")
        return FileDiff(path, *sizes, config=found)
    return FileDiff(path, *sizes)


def _symbols(path: str, files: Files, data: bytes) -> Counter[str]:
    """Sizes by the file's own symbols, else by the System.map beside it."""
    own = elf.symbol_sizes(data)
    beside = files.get(os.path.join(os.path.dirname(path), MAP))  # noqa: PTH120  a name in an object
    return own or (elf.map_sizes(beside.text() or "") if beside else own)


def _sized(old: Mapping[str, int], new: Mapping[str, int]) -> tuple[Sized, ...]:
    """What has another size, the largest difference first."""
    found = [
        Sized(name, old.get(name), new.get(name))
        for name in dict.fromkeys(itertools.chain(old, new))
        if old.get(name) != new.get(name)
    ]
    return tuple(sorted(found, key=lambda each: (-abs(each.growth), each.name)))
