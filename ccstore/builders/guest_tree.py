"""A file system in memory: what is where, who owns it, and where the bytes of its files can be read.

Trees of ours and the layers of images are put into one another here, and what comes out is written as one tar
archive that depends on nothing else (sorted by path, one time, numeric owners). Links in it are followed as a
kernel would that has this tree as `/`, so nothing outside is ever reached. Stdlib only; runs in the sandbox.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

DIRECTORY, FILE, SYMLINK = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE
CHARACTER, BLOCK, FIFO = tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE
DEVICES = {"c": CHARACTER, "b": BLOCK}
MAX_LINKS = 40  # as in Linux
MAX_DEPTH = 400  # folders in one another; trees are walked by functions that call themselves
SHARED_FROM = 4096  # bytes: smaller files take a block each in most file systems, or none
_KINDS = {
    DIRECTORY: "a folder",
    FILE: "a file",
    SYMLINK: "a symbolic link",
    CHARACTER: "a character device",
    BLOCK: "a block device",
    FIFO: "a FIFO",
}


class TreeWrong(Exception):  # noqa: N818 (it says of a path what is so)
    """Something cannot be put where it should be."""


@dataclass(frozen=True)
class Body:
    """Bytes of a file: `size` of them from `offset` on in the file `source`, or `text`."""

    size: int = 0
    source: Path | None = None
    offset: int = 0
    text: bytes = b""

    @classmethod
    def of(cls, text: bytes) -> Body:
        return cls(len(text), text=text)

    def open(self) -> BinaryIO:
        if self.source is None:
            return io.BytesIO(self.text)
        file = self.source.open("rb")
        file.seek(self.offset)
        return file

    def digest(self) -> bytes:
        """SHA-256 of the bytes."""
        result, left = hashlib.sha256(), self.size
        with self.open() as file:
            while left and (chunk := file.read(min(left, 1 << 20))):
                result.update(chunk)
                left -= len(chunk)
        return result.digest()

    def read(self) -> bytes:
        with self.open() as file:
            return file.read(self.size)


@dataclass
class Node:
    """What is at a path. Two names of one node are hard links of one another."""

    kind: bytes = DIRECTORY
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    target: str = ""
    body: Body = field(default_factory=Body)
    device: tuple[int, int] = (0, 0)
    children: dict[str, Node] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        return self.kind == DIRECTORY

    def __str__(self) -> str:
        return _KINDS[self.kind]

    def total(self) -> int:
        """The bytes of all files below, each file once."""
        return sum(node.body.size for node in {id(node): node for _, node in self.walk("")}.values())

    def walk(self, path: str) -> Iterator[tuple[str, Node]]:
        """Everything below, sorted by name within each folder, with its path."""
        for name in sorted(self.children, key=os.fsencode):
            here = f"{path}/{name}" if path else name
            yield here, self.children[name]
            yield from self.children[name].walk(here)


def parts_of(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


class Tree:
    """A whole file system."""

    def __init__(self) -> None:
        self.root = Node()

    def find(self, path: str, *, follow: bool = True) -> Node | None:
        """What is at `path`, links on the way (and at its end, with `follow`) followed; None if nothing is."""
        place = self._resolve(parts_of(path), follow=follow)
        node: Node | None = self.root
        for part in place:
            node = node.children.get(part) if node is not None and node.is_folder else None
        return node

    def folder(self, path: str, *, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Node:
        """The folder at `path`, made with what leads to it if it is not there. Raises TreeWrong."""
        node = self.root
        place = self._resolve(parts_of(path), follow=True)
        if len(place) > MAX_DEPTH:
            raise TreeWrong(f"/{path[:200]} is below more than {MAX_DEPTH} folders")
        for index, part in enumerate(place):
            if part not in node.children:
                node.children[part] = Node(mode=mode, uid=uid, gid=gid)
            node = node.children[part]
            if not node.is_folder:
                raise TreeWrong(f"/{'/'.join(place[: index + 1])} is {node}, a folder is wanted there")
        return node

    def put(self, path: str, node: Node) -> None:
        """Puts `node` at `path`; it takes the place of what is no folder. A folder joins one that is there."""
        *above, name = parts_of(path)
        parent = self.folder("/".join(above))
        before = parent.children.get(name)
        if before is None:
            parent.children[name] = node
            return
        if node.is_folder and (before.is_folder or before.kind == SYMLINK):
            there = self.folder(path)
            there.mode, there.uid, there.gid = node.mode, node.uid, node.gid
            return
        if before.is_folder or node.is_folder:
            raise TreeWrong(f"/{path} is {before} and would become {node}")
        parent.children[name] = node

    def remove(self, path: str) -> None:
        """Takes away what is at `path`, and everything below; nothing if nothing is there."""
        *above, name = parts_of(path)
        parent = self.find("/".join(above))
        if parent is not None:
            parent.children.pop(name, None)

    def merge(self, other: Node, path: str = "", copies: dict[int, Node] | None = None) -> None:
        """Copies everything below the folder `other` to `path`; later files win. Raises TreeWrong.

        `copies` has the files that were copied already, so that hard links stay such.
        """
        copies = {} if copies is None else copies
        for name, child in sorted(other.children.items()):
            here = f"{path}/{name}" if path else name
            if child.is_folder:
                self.put(here, replace(child, children={}))
                self.merge(child, here, copies)
            else:
                self.put(here, copies.setdefault(id(child), replace(child)))

    def _resolve(self, waiting: list[str], *, follow: bool) -> list[str]:
        """The path without links. What is not there stays as it is named. Raises TreeWrong for a circle."""
        waiting = list(reversed(waiting))
        place: list[str] = []
        nodes = [self.root]
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                if place:
                    place.pop()
                    nodes.pop()
                continue
            node = nodes[-1].children.get(part)
            if node is not None and node.kind == SYMLINK and (waiting or follow):
                links += 1
                if links > MAX_LINKS:
                    raise TreeWrong(f"/{'/'.join([*place, part])} is a link in a circle of links")
                if node.target.startswith("/"):
                    place, nodes = [], [self.root]
                waiting += reversed(parts_of(node.target))
                continue
            place.append(part)
            nodes.append(node if node is not None else Node())
        return place


def read_folder(folder: str) -> Node:
    """A tree of ours as it is in the store: it has no owners, and no modes but `executable`."""
    result = Node()
    for entry in os.scandir(folder):
        result.children[entry.name] = _read_entry(entry)
    return result


def _read_entry(entry: os.DirEntry[str]) -> Node:
    if entry.is_symlink():
        return Node(SYMLINK, 0o777, target=str(Path(entry.path).readlink()))
    if entry.is_dir():
        return read_folder(entry.path)
    status = entry.stat()
    mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    return Node(FILE, mode, body=Body(status.st_size, Path(entry.path)))


def join_equals(tree: Tree) -> int:
    """Makes hard links of equal files (bytes, owner, mode), which a read-only root can share; the bytes saved."""
    groups: dict[tuple[int, int, int, int], list[Node]] = {}
    for node in {id(each): each for _, each in tree.root.walk("")}.values():
        if node.kind == FILE and node.body.size >= SHARED_FROM:
            groups.setdefault((node.body.size, node.mode, node.uid, node.gid), []).append(node)
    twins: dict[int, Node] = {}
    for nodes in groups.values():
        first: dict[bytes, Node] = {}
        for node in nodes if len(nodes) > 1 else ():
            twins[id(node)] = first.setdefault(node.body.digest(), node)
    saved = sum(twin.body.size for key, twin in twins.items() if key != id(twin))
    for _, folder in [("", tree.root), *tree.root.walk("")]:
        for name, node in folder.children.items():
            folder.children[name] = twins.get(id(node), node)
    return saved


def write_tar(tree: Tree, path: Path, time: int) -> None:
    """The tree as a PAX archive; `time`, in seconds, is everything's."""
    names: dict[int, str] = {}
    with tarfile.open(
        path, "w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as tar:
        tar.addfile(_entry(".", tree.root, time))
        for name, node in sorted(tree.root.walk(""), key=lambda each: os.fsencode(each[0])):
            info = _entry(name, node, time)
            first = names.setdefault(id(node), name)
            if first != name and node.kind != SYMLINK:  # an initramfs has no such
                info.type, info.size, info.linkname = tarfile.LNKTYPE, 0, first
            if info.isreg():
                with node.body.open() as body:
                    tar.addfile(info, body)
            else:
                tar.addfile(info)


def _entry(name: str, node: Node, time: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.uid, info.gid, info.mtime = node.kind, node.mode, node.uid, node.gid, time
    info.linkname = node.target
    info.size = node.body.size if node.kind == FILE else 0
    info.devmajor, info.devminor = node.device
    return info
