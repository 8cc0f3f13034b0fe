"""A build request as tar archives, for an engine on the other side of a connection.

Everything is owned by the user that the build runs as, with the modes and times of the store, as it is in the
sandbox; only what the engine mounts on, and the folders of an overlay output, can be written to.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from ccstore.codec import tar
from ccstore.executor.launch import OWNER
from ccstore.model.objects import Entry
from ccstore.ports import BuildRequest, Tree

MOUNT_POINTS = ("in", "build", "out", "tmp")


def root(tree: Tree) -> Iterator[bytes]:
    """The toolchain, as the layer of an image."""
    for entry in tree.entries():
        if entry.path in MOUNT_POINTS:
            yield tar.folder(entry.path, 0o755, OWNER)
        elif entry.path:
            yield from _entry(tree, entry.path, entry, 0o555)
    yield tar.END


def inputs(request: BuildRequest) -> Iterator[bytes]:
    """What goes below `/in`."""
    for name in sorted(request.inputs):
        yield from _tree(name, request.inputs[name], 0o555)
    folders: set[PurePosixPath] = set()
    for name in sorted(request.files):
        path = PurePosixPath(".builder", name)
        for folder in [each for each in reversed(path.parents) if each.name and each not in folders]:
            folders.add(folder)
            yield tar.folder(str(folder), 0o755, OWNER)
        yield tar.text(str(path), request.files[name].encode("utf-8", "surrogateescape"), 0o444, OWNER)
    yield tar.END


def overlays(request: BuildRequest) -> Iterator[bytes]:
    """What goes below `/out` before the build begins: each overlay output as the input that it starts from."""
    for output, name in sorted(request.overlays.items()):
        yield from _tree(output, request.inputs[name], 0o755)
    yield tar.END


def _tree(name: str, tree: Tree, folder_mode: int) -> Iterator[bytes]:
    for entry in tree.entries():
        yield from _entry(tree, f"{name}/{entry.path}" if entry.path else name, entry, folder_mode)


def _entry(tree: Tree, name: str, entry: Entry, folder_mode: int) -> Iterator[bytes]:
    if entry.type == "directory":
        yield tar.folder(name, folder_mode, OWNER)
    elif entry.type == "symlink":
        yield tar.symlink(name, entry.target, OWNER)
    else:
        with tree.open(entry.path) as content:
            yield from tar.file(name, content, entry.size, 0o555 if entry.executable else 0o444, OWNER)
