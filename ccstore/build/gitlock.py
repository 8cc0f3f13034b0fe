"""`ccstore lock` of a `git` recipe that follows a branch or tag: moves its commit, and says what that changes.

What counts is what the kernel recipes of the project take from it, patches and config fragments; of a repository
that none takes anything from, every file.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ccstore.build import evaluation
from ccstore.build.workspace import Options, Workspace
from ccstore.builders.patch import by_name, listed
from ccstore.errors import CcError
from ccstore.events import Finished, Noted, Sink, Started
from ccstore.fetch.git import fetch_git
from ccstore.fetch.gitref import commit_of
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import GitSource, Ref
from ccstore.model.hashes import Sha256
from ccstore.model.objects import Entry, ObjectInfo
from ccstore.model.realisation import OutputId, Realisation
from ccstore.ports import Cancel, Tree
from ccstore.recipe.extends import full_kernels
from ccstore.recipe.kinds import GitRecipe
from ccstore.recipe.parts import WHOLE, Part, PatchPart
from ccstore.recipe.pins import moved
from ccstore.recipe.project import Project, Recipe, load_user_config
from ccstore.store.session import Session
from ccstore.store.store import Store

NO_COMMIT = "0" * 40  # what a recipe says before its first lock


@dataclass(frozen=True, slots=True)
class PinMove:
    """From one commit to another; `came`, `went` and `changed` are paths in the repository."""

    old: str
    new: str
    came: tuple[str, ...] = ()
    went: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """For people: `commit old → new`, then `+ path`, `- path`, `~ path`."""
        if self.old != self.new:
            yield f"commit {self.old} → {self.new}"
        for sign, paths in (("+", self.came), ("-", self.went), ("~", self.changed)):
            yield from (f"{sign} {path}" for path in paths)

    def as_value(self) -> dict[str, Any]:
        commit = {"old": self.old, "new": self.new}
        return {
            "commit": commit,
            "came": list(self.came),
            "went": list(self.went),
            "changed": list(self.changed),
        }


def lock_git(
    project: Project, recipe: Recipe, spec: GitRecipe, store: Store, sink: Sink, cancel: Cancel
) -> PinMove:
    """Writes the commit that `spec.follow` is at, and its hash, into the recipe's file.

    Raises what fetching raises, and `recipe-invalid` for a pin that cannot be replaced where it stands; the file then
    stays as it is.
    """
    assert spec.follow
    label = f"{recipe.name}.lock"
    began = time.monotonic()
    sink(Started(label, "fetch"))
    with store.session() as session, session.staging(label) as staging:
        try:
            commit = commit_of(spec.url, spec.follow, staging, label, sink, cancel)
            if commit == spec.commit:
                return PinMove(commit, commit)
            source = GitSource(spec.url, commit, tuple(sorted(set(spec.paths))))
            info = _fetch(recipe.name, source, store, session, staging, sink, cancel)
        except CcError as error:
            error.where = error.where or recipe.document.where(("follow",))
            raise
        finally:
            sink(Finished(label, "fetch", time.monotonic() - began))
        parts = _parts_from(project, recipe.name)
        new = _taken(store.objects.tree(info.path), parts)
        old = _old(project, recipe, spec, store, sink, cancel, parts)
    _write(recipe, spec, commit, info.nar_hash)
    return _compare(spec.commit, commit, old, new)


def _fetch(
    name: str, source: GitSource, store: Store, session: Session, staging: Path, sink: Sink, cancel: Cancel
) -> ObjectInfo:
    """Fetches the commit, whose hash nobody knows yet, and keeps it: the next `realize` finds it there."""
    tree, scratch = staging / "out", staging / "scratch"
    scratch.mkdir()
    unknown = FixedOutput(name, "nar", Sha256.of(b""))
    fetch_git(source, unknown, tree, scratch, f"{name}.lock", sink, cancel)
    info = session.register(tree, name)
    fixed = FixedOutput(name, "nar", info.nar_hash)
    store.realisations.record(fixed, [Realisation(OutputId(fixed.id, "out"), info, executor="fetch")])
    return info


def _old(
    project: Project,
    recipe: Recipe,
    spec: GitRecipe,
    store: Store,
    sink: Sink,
    cancel: Cancel,
    parts: list[Part],
) -> dict[str, object]:
    """What was taken so far; nothing when the recipe was never locked, or its commit cannot be had any more."""
    if spec.commit == NO_COMMIT:
        return {}
    alone = replace(project, recipes={recipe.name: recipe})
    work = Workspace(alone, load_user_config(os.environ), store, evaluation.clock())
    try:
        [old] = work.realize_refs([Ref(recipe.name)], sink=sink, options=Options(), cancel=cancel).values()
    except CcError as error:
        if error.code == "interrupted":
            raise
        sink(Noted(f"the old commit cannot be had, so everything counts as new: {error}", warning=True))
        return {}
    return _taken(store.objects.tree(old.object.path), parts)


def _parts_from(project: Project, name: str) -> list[Part]:
    """What the kernel recipes take from the recipe called `name`."""
    parts: list[Part] = []
    for spec in full_kernels(project.recipes).values():
        parts += [*spec.patches, spec.config.base, *spec.config.fragments]
    return [part for part in parts if part.from_ == name]


def _taken(tree: Tree, parts: list[Part]) -> dict[str, object]:
    """The files that `parts` take, each with what tells one content from another."""
    files = {entry.path: _content(entry) for entry in tree.entries() if entry.type != "directory"}
    if not parts:
        return files
    names = {name for part in parts for name in _names(tree, files, part)}
    return {name: files[name] for name in names if name in files}


def _content(entry: Entry) -> object:
    return (entry.type, entry.executable, entry.sha256, entry.target)


def _names(tree: Tree, files: Mapping[str, object], part: Part) -> list[str]:
    top = "" if part.path in (None, WHOLE) else f"{part.path}/"
    if not any(name.startswith(top) for name in files):
        return [top.rstrip("/")]  # a file, or not there
    below = [name.removeprefix(top) for name in files if name.startswith(top)]
    if not isinstance(part, PatchPart):
        return [top + name for name in below]
    series = part.series or "series"
    if series not in below:
        return [top + name for name in by_name(name for name in below if "/" not in name)]
    with tree.open(top + series) as file:
        text = file.read().decode(errors="surrogateescape")
    with suppress(ValueError):  # the build will say what is wrong with it
        return [top + series, *(top + name for _, name, _, _ in listed(text))]
    return [top + series]


def _compare(
    old_commit: str, new_commit: str, old: Mapping[str, object], new: Mapping[str, object]
) -> PinMove:
    both = sorted(old.keys() & new.keys())
    return PinMove(
        old_commit,
        new_commit,
        came=tuple(sorted(new.keys() - old.keys())),
        went=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(name for name in both if old[name] != new[name]),
    )


def _write(recipe: Recipe, spec: GitRecipe, commit: str, digest: Sha256) -> None:
    """Puts the new file in the place of the old one at once, or leaves the old one."""
    file = Path(os.path.realpath(recipe.path))
    try:
        content = file.read_bytes()
        # in the form in which it was written
        written = digest.hex if spec.sha256.hex.encode() in content else digest.sri
        data = moved(content, recipe.document.name, {("commit",): commit, ("sha256",): written})
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(descriptor, "wb") as temporary:
                temporary.write(data)
                os.fchmod(descriptor, file.stat().st_mode & 0o777)
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        message = f"the recipe cannot be written: {error.strerror}"
        hint = "make the file and its folder writable, with room on the disk"
        raise CcError("usage", message, where=recipe.document.name, hint=hint) from error
