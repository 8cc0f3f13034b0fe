"""The lock file of a Debian tree: the whole closure of what a recipe asks for, each package with its hash.

YAML, one package a line, in the order of their names, so that a version control system shows what an update
changed. `release` says which signed index the versions come from (its date, and the SHA-256 of its InRelease).
Reading it back is the recipe's part (`ccstore.recipe.lock`), which knows lines and columns.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HEADER = "# Written by `ccstore lock`: every package of the closure, from the signed index of the suite.\n"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: packages of one component of a suite, for one architecture."""

    suite: str
    packages: tuple[str, ...]
    component: str = "main"
    architecture: str = "amd64"


@dataclass(frozen=True, slots=True)
class Release:
    """A suite's signed index: its date (ISO 8601, UTC) and the SHA-256 (hex) of its InRelease file."""

    date: str
    sha256: str


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One package: `path` below the archive's root (`pool/…`), `size` in bytes, `sha256` in hex."""

    name: str
    version: str
    architecture: str
    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Lock:
    """`packages` are sorted by name."""

    request: Request
    release: Release
    packages: tuple[LockedPackage, ...]


@dataclass(frozen=True, slots=True)
class LockDiff:
    """What changed from one lock to another; `changed` has pairs of old and new."""

    came: tuple[LockedPackage, ...]
    went: tuple[LockedPackage, ...]
    changed: tuple[tuple[LockedPackage, LockedPackage], ...]

    def lines(self) -> Iterator[str]:
        """For people: `+ name version`, `- name version`, `~ name old → new`."""
        for package in self.came:
            yield f"+ {package.name} {package.version}"
        for package in self.went:
            yield f"- {package.name} {package.version}"
        for old, new in self.changed:
            same = old.version == new.version
            yield f"~ {new.name} {old.version} → {new.version}{' (another file)' if same else ''}"

    def as_value(self) -> dict[str, Any]:
        """For machines; `changed` has old and new versions, equal ones if the file is another."""
        changed = [{"name": new.name, "old": old.version, "new": new.version} for old, new in self.changed]
        return {"came": _versions(self.came), "went": _versions(self.went), "changed": changed}


def _versions(packages: Iterable[LockedPackage]) -> list[dict[str, str]]:
    return [{"name": package.name, "version": package.version} for package in packages]


def diff(old: Iterable[LockedPackage], new: Iterable[LockedPackage]) -> LockDiff:
    before = {package.name: package for package in old}
    after = {package.name: package for package in new}
    return LockDiff(
        came=tuple(after[name] for name in sorted(after.keys() - before.keys())),
        went=tuple(before[name] for name in sorted(before.keys() - after.keys())),
        changed=tuple(
            (before[name], after[name])
            for name in sorted(before.keys() & after.keys())
            if before[name] != after[name]
        ),
    )


def render(lock: Lock) -> str:
    """The text of the file. Strings are quoted, since `12.0` is a number to YAML."""
    request, release = lock.request, lock.release
    lines = [
        HEADER + "version: 1",
        f"suite: {json.dumps(request.suite)}",
        f"component: {json.dumps(request.component)}",
        f"architecture: {json.dumps(request.architecture)}",
        f"release: {json.dumps(asdict(release))}",
        f"request: {json.dumps(request.packages)}",
        "packages:",
        *(f"- {json.dumps(asdict(package))}" for package in lock.packages),
    ]
    return "\n".join(lines) + "\n"


def write_lock(path: Path, lock: Lock) -> None:
    """Puts the new file in the place of the old one at once, or leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(render(lock))
            os.fchmod(file.fileno(), 0o644)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
