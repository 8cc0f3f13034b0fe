"""What a target rests on, and whether that has changed: for `ccstore dev`."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ccstore.build.workspace import Workspace
from ccstore.model.graph import Ref
from ccstore.recipe.guest import GuestRecipe

Stamp = tuple[int, int, int, int]  # inode, size in bytes, mtime and ctime in nanoseconds
GONE: Stamp = (0, 0, 0, 0)


class Watched:
    """Files and folders as they were when this was made, or when `changed` last said that some are other ones."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._known = {path: _stamp(path) for path in paths}

    def changed(self) -> list[str]:
        """The paths that are not as they were; a folder is another one when a name came or went."""
        now = {path: _stamp(path) for path in self._known}
        found = [path for path, stamp in now.items() if stamp != self._known[path]]
        self._known = now
        return found


def _stamp(path: str) -> Stamp:
    try:
        now = os.lstat(path)
    except OSError:
        return GONE
    return now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns


def guests_with(work: Workspace, kernel: Ref) -> list[str]:
    """The guest recipes that boot `kernel`; those without an agent first: they show by themselves that they run."""
    found = {
        name: each.spec
        for name, each in work.project.recipes.items()
        if isinstance(each.spec, GuestRecipe) and each.spec.kernel
    }
    using = [name for name in found if kernel in _kernels(work, name)]
    return sorted(using, key=lambda name: (found[name].agent is not None, name))


def _kernels(work: Workspace, guest: str) -> set[Ref]:
    return {ref for step in work.graph.closure(work.graph.find(guest)) for ref in work.graph.references(step)}
