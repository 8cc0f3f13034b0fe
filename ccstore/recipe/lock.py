"""The lock file of a `debian` recipe, as a recipe needs it: the pinned packages and what was asked for.

`ccstore lock` writes it; keys that only it needs (the release, the index) are not looked at here.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field

from ccstore.errors import CcError
from ccstore.recipe import document, invalid
from ccstore.recipe.kinds import DebianRecipe
from ccstore.recipe.values import Base, Count, Hash, InnerPath, Model, OneLine, PackageName

MAX_BYTES = 8 * 1024 * 1024


def _distinct(packages: list[Any]) -> list[Any]:
    twice = [name for name, count in Counter(each.name for each in packages).items() if count > 1]
    if twice:
        raise ValueError(f"packages are listed twice: {', '.join(sorted(twice))}")
    return packages


class LockedPackage(Model):
    """One package of the closure. `size` is in bytes, `path` below the archive's root (`pool/…`)."""

    model_config = ConfigDict(extra="ignore")

    name: PackageName
    version: OneLine
    architecture: OneLine
    path: InnerPath
    size: Count
    sha256: Hash


class Lock(Model):
    """Every package that `request` needs in `component` of `suite`."""

    model_config = ConfigDict(extra="ignore")

    suite: OneLine
    component: OneLine
    request: list[PackageName]
    packages: Annotated[list[LockedPackage], Field(min_length=1), AfterValidator(_distinct)]


def read_lock(path: Path, name: str) -> Lock:
    """Raises `file-missing` or `lock-invalid`; `name` is what messages call the file."""
    text = document.read(path, name, document.LOCK, MAX_BYTES)
    try:
        return invalid.validate(text, Lock, Base(path.parent, path.parent))
    except CcError as error:
        error.hint = error.hint or "`ccstore lock` writes it anew"
        raise


def check_fresh(lock: Lock, spec: DebianRecipe, recipe: document.Document, name: str) -> None:
    """Raises `lock-stale` when the lock was made for another request than the recipe's."""
    hint = f"ccstore lock {name}"
    if lock.suite != spec.suite:
        message = f"the lock is for suite {lock.suite!r}, the recipe wants {spec.suite!r}"
        raise recipe.error(message, ("suite",), code="lock-stale", hint=hint)
    new = sorted(set(spec.packages) - set(lock.request))
    gone = sorted(set(lock.request) - set(spec.packages))
    if new or gone:
        changes = [f"+{each}" for each in new] + [f"-{each}" for each in gone]
        message = f"the lock was made for other packages: {' '.join(changes)}"
        raise recipe.error(message, ("packages",), key=True, code="lock-stale", hint=hint)
