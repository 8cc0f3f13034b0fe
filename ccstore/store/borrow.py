"""Objects of one store in another: a second, short-lived store for a build that is to see its inputs elsewhere.

Their files are hard links to the first store's, so both must lie on one file system, and whoever uses the second
store must leave them as they are: builds are shown them read-only. For a build by another user they are copies that
this user owns, as files of the user's own store would be: in the sandbox, what nobody there owns looks different.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ccstore.model.objects import Entry
from ccstore.model.storepath import StorePath
from ccstore.store import files, manifest
from ccstore.store.canonical import FOLDER_MODE, MTIME_NS, file_mode
from ccstore.store.failures import explained
from ccstore.store.objects import ObjectTree
from ccstore.store.overlay import bring
from ccstore.store.store import Store


def borrow(source: Store, target: Store, paths: Iterable[StorePath], owner: int | None = None) -> None:
    """Registers objects of `source` in `target`, as links, or as copies that belong to `owner`.

    What is there already stays, if it belongs to `owner`.
    Raises `not-found`, `object-damaged`, `disk-full`, OSError.
    """
    with explained(target.root):
        for path in paths:
            place = target.layout.object(path)
            if target.objects.has(path) and owner in (None, place.lstat().st_uid):
                continue
            files.remove(place)  # never changed in place: its files may be those of `source`
            _bring_tree(source.objects.tree(path), place, owner)
            shutil.copyfile(source.layout.manifest(path), target.layout.manifest(path))
            target.database.add_object(manifest.read_header(target.layout.manifest(path)))


def _bring_tree(tree: ObjectTree, place: Path, owner: int | None) -> None:
    folders: list[Path] = []
    for entry in tree.entries():
        source, target = (top / entry.path if entry.path else top for top in (tree.path, place))
        if owner is not None and entry.type == "file":
            _copy(entry, source, target, owner)
            continue
        bring(entry, os.fsencode(source), os.fsencode(target))
        if entry.type == "directory":
            folders.append(target)
        elif entry.type == "symlink":
            _settle(target, owner)
    for folder in reversed(folders):
        folder.chmod(FOLDER_MODE)
        _settle(folder, owner)


def _copy(entry: Entry, source: Path, target: Path, owner: int) -> None:
    shutil.copyfile(source, target, follow_symlinks=False)
    target.chmod(file_mode(entry.executable))
    _settle(target, owner)


def _settle(path: Path, owner: int | None) -> None:
    if owner is not None:
        os.chown(path, owner, owner, follow_symlinks=False)
    os.utime(path, ns=(MTIME_NS, MTIME_NS), follow_symlinks=False)
