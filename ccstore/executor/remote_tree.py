"""A build request as the input root of a remote action: a Merkle tree, put together from the store's manifests.

A worker roots the action at its input root, so that is what the build sees: the toolchain, the inputs below `in`,
each overlay output as a copy of its input below `out`, and empty `build` and `tmp`. The digests of files are those
that registration kept; only folders and the builder's texts are hashed here. Modes are those of the store, so that
only `build`, `out` and `tmp` can be written to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ccstore.codec.reapi import message
from ccstore.codec.recas import Digest, Source
from ccstore.errors import CcError
from ccstore.executor import packing
from ccstore.model.objects import Entry
from ccstore.ports import BuildRequest, Tree


@dataclass(slots=True)
class Blobs:
    """Everything that a server needs for one action, opened only if it has not got it."""

    sources: dict[Digest, Source] = field(default_factory=dict)

    def text(self, data: bytes) -> Digest:
        digest = Digest.of(data)
        self.sources[digest] = data
        return digest

    def message(self, value: Any) -> Digest:
        return self.text(value.SerializeToString(deterministic=True))

    def file(self, tree: Tree, entry: Entry) -> Digest:
        digest = Digest(entry.sha256.hex(), entry.size)
        self.sources.setdefault(digest, lambda: tree.open(entry.path))
        return digest


@dataclass(slots=True)
class Folder:
    """A folder of the input root; `writable` counts for those that are made in it, too."""

    folders: dict[str, Folder] = field(default_factory=dict)
    files: dict[str, tuple[Digest, bool]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    writable: bool = False

    def at(self, path: str) -> Folder:
        """The folder at `path` below this one, made if it is not there."""
        here = self
        for name in filter(None, path.split("/")):
            here = here.folders.setdefault(name, Folder(writable=here.writable))
        return here

    def store(self, blobs: Blobs) -> Digest:
        described = message("Directory")()
        for name in sorted(self.files):
            digest, executable = self.files[name]
            node = described.files.add(name=name, is_executable=executable)
            digest.write(node.digest)
            node.node_properties.unix_mode.value = 0o555 if executable else 0o444
        described.node_properties.unix_mode.value = 0o755 if self.writable else 0o555
        for name in sorted(self.folders):
            self.folders[name].store(blobs).write(described.directories.add(name=name).digest)
        for name in sorted(self.links):
            described.symlinks.add(name=name, target=self.links[name])
        return blobs.message(described)


def toolchain_root(toolchain: Tree, blobs: Blobs) -> Digest:
    """The digest of a toolchain as a root for actions; all that it consists of is in `blobs` afterwards."""
    return _toolchain(toolchain, blobs).store(blobs)


def _toolchain(tree: Tree, blobs: Blobs) -> Folder:
    root = Folder()
    _graft(root, "", tree, blobs)
    for name in packing.MOUNT_POINTS:
        root.folders[name] = Folder(writable=name != "in")
    return root


def input_root(request: BuildRequest, blobs: Blobs) -> Digest:
    """The digest of the input root; all that it consists of is in `blobs` afterwards. Raises `remote-unfit`."""
    root = _toolchain(request.root, blobs)
    for name, tree in request.inputs.items():
        _graft(root.folders["in"], name, tree, blobs)
    for name, text in request.files.items():
        folder, _, base = f".builder/{name}".rpartition("/")
        root.folders["in"].at(folder).files[base] = (
            blobs.text(text.encode("utf-8", "surrogateescape")),
            False,
        )
    for output, name in request.overlays.items():
        _graft(root.folders["out"], output, request.inputs[name], blobs)
    try:
        return root.store(blobs)
    except (UnicodeEncodeError, ValueError) as error:
        raise CcError(
            "remote-unfit",
            f"a name among the inputs is not UTF-8, which remote execution cannot carry: {error}",
            where=request.label,
            hint="build it with --executor sandbox or docker",
        ) from error


def _graft(top: Folder, name: str, tree: Tree, blobs: Blobs) -> None:
    for entry in tree.entries():
        path = "/".join(filter(None, (name, entry.path)))
        folder, _, base = path.rpartition("/")
        if entry.type == "directory":
            top.at(path)
        elif entry.type == "symlink":
            top.at(folder).links[base] = entry.target
        else:
            top.at(folder).files[base] = (blobs.file(tree, entry), entry.executable)
