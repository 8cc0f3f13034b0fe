"""Build folders that are kept for the next build of the same step (`realize --incremental`).

    <store>/warm/<project>/<step>/
      build/             what the last build left of /build; builds own it, so nothing in it is trusted
      changed/<input>/   what the next one sees instead of input files that are not as the folder knows them
      known/<object>     manifests of the objects that the folder was built from
      state.json         key, the objects by input, when the last build ended, whether in order

Objects have the time 1, so a file that was changed and changed back would look old to `make`; and it would look
new to a folder that never saw the change. Only content counts: a file is given the time of now if it differs from
what the folder was built from, and the time of the store if not. `key` stands for everything else that the folder was
built from: a folder with another one is thrown away. A build that failed or was interrupted leaves a folder that was
built from two states of its inputs; then a file has to agree with both. One that was killed leaves a folder that is
thrown away: a file in it may be half written, or lack the second of two steps that make it, and is newer than all
that it is made from.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ccstore.model.objects import Entry
from ccstore.model.storepath import StorePath
from ccstore.ports import Cancel
from ccstore.store import files, locks, manifest
from ccstore.store.canonical import file_mode
from ccstore.store.layout import Layout

FORMAT = 2
SECOND = 1_000_000_000  # nanoseconds
MOST_CHANGED = 8_000  # files of an input: beyond that a new folder costs less than to sort this one out
MOST_STATES = 8  # of inputs that one folder can have been built from
# a new file may hide another of its name from #include; these are never included
NOT_INCLUDED = ("Makefile", "Kbuild", "Kconfig", ".gitignore")
Inputs = Mapping[str, StorePath]  # by input name


@dataclass(frozen=True, slots=True)
class State:
    """`seen`: each set of inputs that something in the folder may have been built from. `ended` is in nanoseconds.
    `whole`: the last build ended in order, and what it wrote is on the disk."""

    key: str
    seen: tuple[Inputs, ...] = ()
    ended: int = 0
    whole: bool = True

    def to_json(self) -> str:
        seen = [{name: path.base for name, path in each.items()} for each in self.seen]
        value = {"format": FORMAT, "key": self.key, "seen": seen, "ended": self.ended, "whole": self.whole}
        return json.dumps(value)

    @classmethod
    def from_json(cls, text: str) -> State:
        """Raises ValueError for anything that `to_json` does not write."""
        try:
            value = json.loads(text)
            if value["format"] != FORMAT:
                raise ValueError(f"format {value['format']!r} is not known")
            seen = [{name: StorePath.parse(base) for name, base in each.items()} for each in value["seen"]]
            return cls(str(value["key"]), tuple(seen), int(value["ended"]), value["whole"] is True)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the state of a build folder: {error!r}") from error


@dataclass
class Warm:
    """A build folder on loan. `used`: an earlier build left something in it; `emptied`: why what was left is gone.

    The borrower says how it ended: in order, or it is thrown away; with `succeeded` it holds what the inputs give,
    with `wrong` it gave something else and is thrown away.
    """

    build: Path
    changed: Mapping[str, Path]
    used: bool
    emptied: str = ""
    in_order: bool = False
    succeeded: bool = False
    wrong: bool = False


@contextmanager
def borrow_folder(
    layout: Layout,
    name: tuple[str, str],
    key: str,
    inputs: Inputs,
    on_wait: Callable[[str], None],
    cancel: Cancel,
) -> Iterator[Warm]:
    """The folder for `name` (project and step), ready for a build from `inputs`; nobody else has it meanwhile.

    Raises CcError `interrupted` when `cancel` is set while waiting, and OSError.
    """
    place = layout.warm.joinpath(*name)
    with locks.Locks(layout.locks).warm(*name, on_wait, cancel):
        state, emptied = _prepared(place, key)
        changed = _changed(layout, place, state, inputs)
        if changed is None:
            state, emptied = _begun_anew(place, key), "too much has changed since"
            changed = {}
        for base in inputs.values():
            _keep_manifest(layout, place, base)
        began_with = state
        state = replace(state, seen=(*(each for each in state.seen if each != inputs), inputs))
        _write(place, replace(state, whole=False))
        now = max(time.time_ns(), state.ended + SECOND)
        shown = {
            each: _show(layout, place, inputs[each], each, entries, now) for each, entries in changed.items()
        }
        warm = Warm(place / "build", shown, used=bool(began_with.seen), emptied=emptied)
        try:
            yield warm
        finally:
            if warm.wrong:
                files.remove(place)
            elif warm.in_order:
                _given_back(place, state, inputs, warm)


def _given_back(place: Path, state: State, inputs: Inputs, warm: Warm) -> None:
    seen = (inputs,) if warm.succeeded else state.seen
    files.sync_file_system(place)
    _write(place, replace(state, seen=seen, ended=time.time_ns()))
    if warm.succeeded:
        _drop_manifests(place, inputs)
    files.remove(place / "changed")


def _prepared(place: Path, key: str) -> tuple[State, str]:
    """The state of the folder at `place`, which is begun anew if it is not of `key` or not whole; why it was."""
    try:
        state = State.from_json((place / "state.json").read_text())
    except (OSError, ValueError):
        return _begun_anew(place, key), ""
    if state.key != key:
        return _begun_anew(place, key), "the toolchain, the builder or its environment is another"
    if not state.whole:
        return _begun_anew(place, key), "the last build in it was killed"
    if len(state.seen) >= MOST_STATES or not (place / "build").is_dir():
        return _begun_anew(place, key), ""
    files.remove(place / "changed")
    return state, ""


def _begun_anew(place: Path, key: str) -> State:
    files.remove(place)
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.mkdir(mode=0o700)  # a build may leave set-uid files in it
    (place / "build").mkdir()
    (place / "known").mkdir()
    return State(key)


def _write(place: Path, state: State) -> None:
    files.write_atomically(place / "state.json", state.to_json().encode())


def _keep_manifest(layout: Layout, place: Path, path: StorePath) -> None:
    """A copy, as a collection may take the object."""
    kept = place / "known" / path.base
    if not kept.exists():
        shutil.copyfile(layout.manifest(path), kept)


def _drop_manifests(place: Path, inputs: Inputs) -> None:
    needed = {path.base for path in inputs.values()}
    for file in (place / "known").iterdir():
        if file.name not in needed:
            file.unlink()


def _changed(layout: Layout, place: Path, state: State, inputs: Inputs) -> dict[str, list[Entry]] | None:
    """By input, the files and links that are not what the folder was built from; None if it should be begun anew."""
    found: dict[str, list[Entry]] = {}
    for name, path in inputs.items():
        others = {each[name] for each in state.seen if name in each} - {path}
        if not others:
            continue
        try:
            known = [_contents(place / "known" / other.base) for other in others]
        except (OSError, ValueError):
            return None
        entries = _differing(layout.manifest(path), known)
        if len(entries) > MOST_CHANGED:
            return None
        if entries:
            found[name] = entries
    return found


def _contents(file: Path) -> dict[str, tuple[object, ...]]:
    return {each.path: _content(each) for each in manifest.read_entries(file)}


def _content(entry: Entry) -> tuple[object, ...]:
    return entry.type, entry.executable, entry.sha256, entry.target


def _differing(file: Path, known: list[dict[str, tuple[object, ...]]]) -> list[Entry]:
    """Files and links that are not the same in all of `known`, and those that a new one may stand in front of."""
    entries = [each for each in manifest.read_entries(file) if each.type != "directory"]
    names = {_name(each) for each in entries if any(each.path not in before for before in known)}
    names = {each for each in names if not each.startswith(NOT_INCLUDED)}
    return [
        each
        for each in entries
        if _name(each) in names or any(before.get(each.path) != _content(each) for before in known)
    ]


def _name(entry: Entry) -> str:
    return entry.path.rpartition("/")[2]


def _show(layout: Layout, place: Path, path: StorePath, name: str, entries: list[Entry], now: int) -> Path:
    """Copies of `entries` of the object at `path` with the time `now`; where they are."""
    source, target = layout.object(path), place / "changed" / name
    target.parent.mkdir(exist_ok=True)
    for entry in entries:
        old, new = source / entry.path, target / entry.path
        new.parent.mkdir(parents=True, exist_ok=True)
        if entry.type == "symlink":
            new.symlink_to(entry.target)
        else:
            shutil.copyfile(old, new)
            new.chmod(file_mode(entry.executable))
        os.utime(new, ns=(now, now), follow_symlinks=False)
    return target


def old_folders(layout: Layout, is_old: Callable[[Path], bool]) -> list[Path]:
    """Folders that nobody has used for long."""
    return [place for place in layout.warm.glob("*/*") if is_old(place)]


def set_aside(layout: Layout, place: Path, trash: Path) -> bool:
    """Moves a folder to `trash`, unless it is on loan; whether it did."""
    with locks.Locks(layout.locks).warm_if_free(place.parent.name, place.name) as free:
        if free:
            place.rename(trash)
        return free
