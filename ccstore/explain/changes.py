"""What changed between two lineages: the leaves that differ, each in its own terms.

Both are walked side by side from their tops, and only behind steps that did not give the same: what is behind
another has changed nothing (early cut-off).
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from ccstore.explain.leaves import File, Files
from ccstore.explain.texts import differences, hunks, is_patch
from ccstore.model.graph import Ref
from ccstore.model.lineage import ROOT, Lineage, Origin

Kind = Literal["symbol", "hunk", "value", "line", "text", "file", "version", "source", "input", "builder"]
# what the builders of kernels are told, as recipes call it
KEYS = {
    "VERSION": "version",
    "BASE": "config.base",
    "LOCALVERSION": "localversion",
    "MODULES": "modules",
    "SOURCE_DATE_EPOCH": "source-date-epoch",
    "OPTIONS": "patches",
    "PART": "path",
    "BINARY": "kernel.binary",
}
OF_THE_RECIPE = {"build.sh": "script", "links": "links", "exclude": "exclude"}
_NUMBERED = re.compile(r"(fragment|patches|image|source)-\d+")


@dataclass(frozen=True, slots=True)
class Change:
    """One leaf, or one thing in it, that is not what it was. `step` is the step that it belongs to.

    `leaf` is a file, a step or a recipe; `what` is what of it, and `line` where in it; `old` and `new` are None for
    what was not, or is not, there.
    """

    kind: Kind
    step: str
    leaf: str
    what: str
    old: str | None
    new: str | None
    line: int | None = None


FilesOf = Callable[[Origin], Files | None]


def changes(old: Lineage, new: Lineage, old_files: FilesOf, new_files: FilesOf) -> list[Change]:
    """Every change from `old` to `new`, sources first; none if both are the same derivation.

    `old_files` and `new_files` give the files of a local origin, or None where they are lost.
    """
    return _Comparison(old, new, old_files, new_files).run()


class _Comparison:
    def __init__(self, old: Lineage, new: Lineage, old_files: FilesOf, new_files: FilesOf) -> None:
        self._old, self._new = old, new
        self._old_files, self._new_files = old_files, new_files
        self._seen: set[tuple[str, str]] = set()
        self._found: list[Change] = []

    def run(self) -> list[Change]:
        self._step(self._old.top, self._new.top)
        return list(dict.fromkeys(self._found))

    def _input(self, old: Ref, new: Ref) -> None:
        before = self._old.origins[old.step].contents.get(old.output)
        after = self._new.origins[new.step].contents.get(new.output)
        if before is None or before != after:
            self._step(old, new)

    def _step(self, old: Ref, new: Ref) -> None:
        if (old.step, new.step) in self._seen:
            return
        self._seen.add((old.step, new.step))
        before, after = self._old.origins[old.step], self._new.origins[new.step]
        if before.derivation is not None and before.derivation == after.derivation:
            return
        if before.kind != after.kind:
            self._found.append(Change("source", after.name, after.name, "", _about(before), _about(after)))
        elif after.kind == "build":
            self._build(before, after)
        elif after.kind == "local":
            self._found += self._local(before, after)
        else:
            self._found.append(_fetched(before, after))

    def _build(self, old: Origin, new: Origin) -> None:
        if old.rest.get("command") != new.rest.get("command") and self._is_between(old, new):
            return
        pairs, gone, come = _paired(old, new)
        for before, after in pairs:
            self._input(before, after)
        for ref in come:
            self._found += self._whole(new, self._new.origins[ref.step], come=True)
        for ref in gone:
            self._found += self._whole(new, self._old.origins[ref.step], come=False)
        if not gone and not come:
            self._found += self._order(old, new, pairs)
        self._found += _own(old, new)

    def _is_between(self, old: Origin, new: Origin) -> bool:
        """Whether one of two builds that do different work was put before the other, or taken away from it.

        Without patches, the tree is where the patched tree was: what came or went are the other inputs.
        """
        for ref in old.inputs.values():
            if self._old.origins[ref.step].name == new.name:
                self._others(old, ref, self._old, come=False)
                return True
        for ref in new.inputs.values():
            if self._new.origins[ref.step].name == old.name:
                self._others(new, ref, self._new, come=True)
                return True
        return False

    def _others(self, step: Origin, through: Ref, side: Lineage, *, come: bool) -> None:
        for name, ref in step.inputs.items():
            if name != ROOT and ref != through:
                self._found += self._whole(step, side.origins[ref.step], come=come)

    def _local(self, old: Origin, new: Origin) -> Iterator[Change]:
        before, after = self._old_files(old), self._new_files(new)
        leaf, was = new.says.get("file") or new.name, old.says.get("file") or old.name
        if before is None or after is None:
            what = "content (what it was is not kept any more)"
            yield Change("file", new.name, leaf, what, _digest(old), _digest(new))
        elif ("" in before) != ("" in after):  # a folder in a file's place
            yield from compare_files(new.name, "", _named(was, before), _named(leaf, after))
        else:
            yield from compare_files(new.name, leaf, before, after)

    def _whole(self, step: Origin, leaf: Origin, *, come: bool) -> Iterator[Change]:
        """An input that a step did not have before, or has no more."""
        name = leaf.says.get("file") or leaf.name
        files = None
        if leaf.kind == "local":
            files = (self._new_files if come else self._old_files)(leaf)
        if files is not None and set(files) == {""}:  # one file: what it brings, or took with it
            empty = {"": File("", 0, bytes)}
            sides = (empty, files) if come else (files, empty)
            yield from compare_files(step.name, name, *sides)
        else:
            about = _about(leaf) if leaf.kind == "fetch" else name
            yield Change("input", step.name, name, "", *((None, about) if come else (about, None)))

    def _order(self, old: Origin, new: Origin, pairs: list[tuple[Ref, Ref]]) -> Iterator[Change]:
        """Fragments and patches that are the same and come in another order."""
        places = {after: list(old.inputs.values()).index(before) for before, after in pairs}
        numbered = [ref for name, ref in sorted(new.inputs.items()) if _NUMBERED.match(name)]
        if sorted(numbered, key=places.__getitem__) != numbered:
            names = [_about(self._new.origins[ref.step]) for ref in numbered]
            was = [_about(self._new.origins[ref.step]) for ref in sorted(numbered, key=places.__getitem__)]
            yield Change("value", new.name, _recipe(new), "order", ", ".join(was), ", ".join(names))


def _named(leaf: str, files: Files) -> Files:
    return {f"{leaf}/{path}" if path else leaf: file for path, file in files.items()}


def compare_files(step: str, leaf: str, old: Files, new: Files) -> Iterator[Change]:
    """What differs between two versions of a file or folder that is called `leaf`."""
    for path in sorted({*old, *new}):
        name = "/".join(filter(None, (leaf, path)))
        before, after = old.get(path), new.get(path)
        if before is None or after is None:
            old_size, new_size = _size(name, before), _size(name, after)
            yield Change("file", step, name, "", old_size, new_size)
        elif before.digest != after.digest:
            yield from _in_text(step, name, before, after)


def _size(name: str, file: File | None) -> str | None:
    if file is None:
        return None
    text = file.text() if is_patch(name) else None
    return f"{file.size} bytes" if text is None else f"a patch of {sum(1 for _ in hunks(text))} hunks"


def _in_text(step: str, name: str, before: File, after: File) -> Iterator[Change]:
    old, new = before.text(), after.text()
    if old is None or new is None:
        yield Change("file", step, name, "content", f"{before.size} bytes", f"{after.size} bytes")
        return
    for each in differences(name, old, new):
        yield Change(each.unit, step, name, each.what, each.old, each.new, each.line)


def _paired(old: Origin, new: Origin) -> tuple[list[tuple[Ref, Ref]], list[Ref], list[Ref]]:
    """Inputs of two builds that are for the same, those that went and those that came.

    The names of fragments and patches are numbered; they keep their identity when one is put between them.
    """
    before, after = _by_use(old.inputs), _by_use(new.inputs)
    pairs: list[tuple[Ref, Ref]] = []
    gone: list[Ref] = []
    come: list[Ref] = []
    for use in dict.fromkeys([*before, *after]):
        left, right = before[use], after[use]
        for ref in list(right):
            if ref in left:
                left.remove(ref)
                right.remove(ref)
                pairs.append((ref, ref))
        pairs += zip(left, right, strict=False)
        gone += left[len(right) :]
        come += right[len(left) :]
    return pairs, gone, come


def _by_use(inputs: Mapping[str, Ref]) -> defaultdict[str, list[Ref]]:
    found: defaultdict[str, list[Ref]] = defaultdict(list)
    for name, ref in sorted(inputs.items()):
        found[_NUMBERED.sub(r"\1", name)].append(ref)
    return found


def _own(old: Origin, new: Origin) -> Iterator[Change]:
    """What a build says itself: values of the recipe, the builder, the sandbox."""
    for name in sorted({*old.env, *new.env}):
        before, after = old.env.get(name), new.env.get(name)
        if before != after:
            yield from _value(new, KEYS.get(name, f"env.{name}"), before, after)
    for name in sorted({*old.files, *new.files}):
        before, after = old.files.get(name), new.files.get(name)
        if before != after:
            yield from _builder_file(new, name, before, after)
    for name in sorted({*old.rest, *new.rest}):
        before, after = old.rest.get(name), new.rest.get(name)
        if before != after:
            kind: Kind = "value" if name in ("outputs", "overlays") else "builder"
            yield Change(kind, new.name, _recipe(new), name, before, after)


def _value(new: Origin, key: str, before: str | None, after: str | None) -> Iterator[Change]:
    if before and after and before[:1] == after[:1] == "{":
        for each in differences(key, before, after):
            yield Change("value", new.name, _recipe(new), f"{key}.{each.what}", each.old, each.new)
    else:
        yield Change("value", new.name, _recipe(new), key, before, after)


def _builder_file(new: Origin, name: str, before: str | None, after: str | None) -> Iterator[Change]:
    if name in OF_THE_RECIPE or name.endswith(".json"):
        key = OF_THE_RECIPE.get(name, "")
        for each in differences(name, before or "", after or ""):
            kind: Kind = "value" if each.unit == "value" else "line"
            yield Change(kind, new.name, _recipe(new), f"{key} {each.what}".strip(), each.old, each.new)
    else:
        yield Change("builder", new.name, f"ccstore's {name}", "", _short(before), _short(after))


def _short(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()[:16]


def _fetched(old: Origin, new: Origin) -> Change:
    """A download by the first thing that tells the two apart: version, commit, name of the file, hash."""
    for key in ("version", "commit", "image", "file", "paths", "repository"):
        before, after = old.says.get(key), new.says.get(key)
        if before and after and before != after:
            kind: Kind = "version" if key == "version" else "source"
            return Change(kind, new.name, new.name, "" if key in ("version", "file") else key, before, after)
    return Change("source", new.name, new.name, "content", _digest(old), _digest(new))


def _about(origin: Origin) -> str:
    """A leaf in a word or two."""
    says = origin.says
    return says.get("version") or says.get("file") or says.get("commit") or says.get("image") or origin.name


def _digest(origin: Origin) -> str | None:
    known = origin.contents.get("out") or origin.derivation
    return known[:16] if known else None


def _recipe(origin: Origin) -> str:
    """The recipe's file, or the step where that is not known."""
    return origin.where.partition(":")[0] or origin.name
