"""An OCI image as a tree: its layers put on top of one another, nothing trusted and nothing unpacked to disk.

Every blob is checked against its digest, every layer against the `diff_id` of the image's configuration. A layer's
archive is decompressed to one file, and the tree remembers where in it the bytes of its files are. Whiteouts take
away what lower layers have (`.wh.NAME`, and `.wh..wh..opq` for all of a folder), whatever their place in the layer.
Names and links that lead out of the image are refused; links on the way to a name are followed inside of it. What an
image may take of memory and disk is bounded (`guest_blobs.Budget`), whatever its headers say.

Source: OCI image specification 1.1 (image layout, layer filesystem changeset, image configuration). Stdlib only;
runs inside the sandbox.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING or __package__:
    from ccstore.builders import guest_blobs as blobs
    from ccstore.builders import guest_tree
else:
    import guest_blobs as blobs
    import guest_tree

ImageWrong = blobs.ImageWrong
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
XATTR = "SCHILY.xattr."
MAX_LAYERS = 500  # overlayfs has no more
MAX_HEADER = 128 << 10  # bytes of one entry: the largest extended attribute has 64 KiB
MAX_NAME, MAX_PATH = 255, 4096  # bytes, as in Linux
MAX_DEVICE = (1 << 12, 1 << 20)
MAX_ID = 2**32 - 2  # of users and groups; the next one means none
_CONFIG = {"Entrypoint": list, "Cmd": list, "Env": list, "WorkingDir": str, "User": str, "Labels": dict}
_KINDS = {
    tarfile.REGTYPE: guest_tree.FILE,
    tarfile.AREGTYPE: guest_tree.FILE,
    tarfile.CONTTYPE: guest_tree.FILE,
    tarfile.DIRTYPE: guest_tree.DIRECTORY,
    tarfile.SYMTYPE: guest_tree.SYMLINK,
    tarfile.CHRTYPE: guest_tree.CHARACTER,
    tarfile.BLKTYPE: guest_tree.BLOCK,
    tarfile.FIFOTYPE: guest_tree.FIFO,
}


@dataclass
class Image:
    """A tree, and the `config` part of the image's configuration (empty for a tree of ours)."""

    tree: guest_tree.Tree = field(default_factory=guest_tree.Tree)
    config: dict[str, Any] = field(default_factory=dict)


def is_layout(folder: Path) -> bool:
    return (folder / "oci-layout").is_file() and (folder / "index.json").is_file()


def read_image(layout: Path, scratch: Path, budget: blobs.Budget | None = None) -> Image:
    """The image in an OCI layout with one image; `scratch` is a folder for its layers. Raises ImageWrong."""
    budget = budget or blobs.Budget()
    manifest = _manifest(layout)
    config = blobs.read_json(blobs.find(layout, manifest.get("config"), blobs.MAX_JSON))
    rootfs, layers = config.get("rootfs"), manifest.get("layers")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(layers, list) or not isinstance(diff_ids, list) or len(layers) != len(diff_ids):
        blobs.corrupt("the manifest's layers and the configuration's are not as many")
    if len(layers) > MAX_LAYERS:
        raise ImageWrong("archive-refused", f"the image has {len(layers)} layers, {MAX_LAYERS} are allowed")
    image = Image(config=_checked(config.get("config") or {}))
    for number, (layer, diff_id) in enumerate(zip(layers, diff_ids, strict=True)):
        blob, label = blobs.find(layout, layer, blobs.MAX_BLOB), f"layer {number + 1} of {len(layers)}"
        archive = scratch / f"{number:03}.tar"
        blobs.Layer(blob, archive, label, budget).decompress(diff_id)
        _Layer(image.tree, archive, label, budget).apply()
    return image


def _checked(config: Any) -> dict[str, Any]:
    """What a container takes from an image's configuration, if it is what the specification says."""
    if not isinstance(config, dict):
        blobs.corrupt("its configuration is no mapping")
    for key, kind in _CONFIG.items():
        value = config.get(key)
        words = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if value is not None and not (
            isinstance(value, kind) and all(isinstance(each, str) for each in words)
        ):
            blobs.corrupt(f"{key} of its configuration is {value!r:.100}")
    return {key: config[key] for key in _CONFIG if config.get(key)}


def _manifest(layout: Path) -> dict[str, Any]:
    value = blobs.read_json(layout / "index.json")
    while "manifests" in value:  # an index may lead to an index
        entries = value["manifests"]
        if not isinstance(entries, list):
            blobs.corrupt("its index has no list of manifests")
        # an image that has two names is there twice
        found = list({str(each.get("digest")): each for each in entries if _fits(each)}.values())
        if len(found) != 1:
            blobs.corrupt(f"its index has {len(found)} images for linux/amd64, one is wanted")
        value = blobs.read_json(blobs.find(layout, found[0], blobs.MAX_JSON))
    return value


def _fits(descriptor: Any) -> bool:
    if not isinstance(descriptor, dict):
        blobs.corrupt("an entry of its index is no descriptor")
    platform = descriptor.get("platform") or {}
    if not isinstance(platform, dict):
        blobs.corrupt(f"an entry of its index has the platform {platform!r:.100}")
    return (platform.get("os", "linux"), platform.get("architecture", "amd64")) == ("linux", "amd64")


class _Headers(io.FileIO):
    """An archive of which only headers are read: tarfile itself takes any number of bytes for one."""

    def __init__(self, archive: Path, label: str, budget: blobs.Budget) -> None:
        super().__init__(archive)
        self._label, self._budget = label, budget
        self.left = MAX_HEADER

    def read(self, size: int | None = -1) -> bytes:
        wanted = MAX_HEADER + 1 if size is None or size < 0 else size
        if wanted > self.left:
            raise ImageWrong(
                "archive-refused", f"{self._label} is refused: a header has more than {MAX_HEADER} bytes"
            )
        self.left -= wanted
        self._budget.take(self._label, headers=wanted)
        return super().read(wanted)


class _Layer:
    """One layer on its way into the tree."""

    def __init__(self, tree: guest_tree.Tree, archive: Path, label: str, budget: blobs.Budget) -> None:
        self._tree, self._archive, self._label, self._budget = tree, archive, label, budget
        self._size = archive.stat().st_size

    def apply(self) -> None:
        try:
            entries = self._entries()
            for path, _ in entries:
                self._whiteout(path)
            for path, info in entries:
                if not self._is_marker(path):
                    self._add(path, info)
        # a header of a header of a header; and what tarfile itself stumbles over, in the middle of a sparse header
        except (tarfile.TarError, RecursionError, IndexError, ValueError) as error:
            blobs.corrupt(f"{self._label} is no tar archive: {error}")
        except guest_tree.TreeWrong as error:
            raise ImageWrong("archive-refused", f"{self._label} is refused: {error}") from error

    def _tell_of_attributes(self, names: list[str]) -> None:
        """No image format of ours has extended attributes, such as the capabilities of a file."""
        if names:
            message = f"{self._label}: extended attributes of {len(names)} files are left out: {names[0]!a}…"
            print(message, file=sys.stderr)

    def _refuse(self, path: str, reason: str) -> NoReturn:
        shown = ascii(path)[1:-1]
        raise ImageWrong("archive-refused", f"{self._label} is refused: {shown[:200]} {reason}")

    def _entries(self) -> list[tuple[str, tarfile.TarInfo]]:
        found, attributes = [], []
        with (
            _Headers(self._archive, self._label, self._budget) as headers,
            tarfile.open(fileobj=headers, mode="r:", encoding="utf-8", errors="surrogateescape") as tar,
        ):
            for info in tar:
                headers.left = MAX_HEADER
                self._budget.take(self._label, entries=1)
                self._check_numbers(info)
                if any(key.startswith(XATTR) for key in info.pax_headers):
                    attributes.append(info.name)
                info.pax_headers = {}  # each has a copy of what holds for all
                found.append((self._path(info.name), info))
            end = tar.offset
        self._tell_of_attributes(attributes)
        self._check_end(end)
        return found

    def _check_end(self, end: int) -> None:
        with self._archive.open("rb") as file:  # tarfile takes a broken header for the end
            file.seek(end)
            while chunk := file.read(blobs.CHUNK):
                if chunk.strip(b"\0"):
                    blobs.corrupt(f"{self._label} has a broken header at {end}")

    def _check_numbers(self, info: tarfile.TarInfo) -> None:
        """Tar's extensions have room for any number, also below zero."""
        numbers = {
            "size": (info.size, self._size),
            "uid": (info.uid, MAX_ID),
            "gid": (info.gid, MAX_ID),
            "major number": (info.devmajor, MAX_DEVICE[0] - 1),
            "minor number": (info.devminor, MAX_DEVICE[1] - 1),
        }
        for name, (number, most) in numbers.items():
            if not 0 <= number <= most:
                blobs.corrupt(f"{self._label} has {ascii(info.name)[:200]} with the {name} {number}")

    def _path(self, name: str) -> str:
        parts = guest_tree.parts_of(name)
        if ".." in parts:
            self._refuse(name, "has '..' in its name")
        self._check_lengths(name, name)
        return "/".join(parts)

    def _check_lengths(self, name: str, path: str) -> None:
        """A path that Linux can hold."""
        raw = os.fsencode(path)
        if b"\0" in raw or len(raw) >= MAX_PATH or max(map(len, raw.split(b"/"))) > MAX_NAME:
            self._refuse(name, "has a path that is too long, or with a zero in it")

    def _whiteout(self, path: str) -> None:
        folder, _, name = path.rpartition("/")
        if name == OPAQUE:
            there = self._tree.find(folder)
            if there is not None:
                there.children.clear()
        elif name.startswith(WHITEOUT) and not name.startswith(WHITEOUT * 2):  # others are aufs' own
            gone = name.removeprefix(WHITEOUT)
            if gone in ("", ".", ".."):
                blobs.corrupt(
                    f"{self._label} has the whiteout {ascii(path)[1:-1][:200]}, which names nothing"
                )
            self._tree.remove(f"{folder}/{gone}")

    def _is_marker(self, path: str) -> bool:
        """Whether an entry says something of others; who reads what we write would take a folder for a whiteout."""
        *above, name = path.split("/")
        reserved = [part for part in above if part.startswith(WHITEOUT)]
        if any(not part.startswith(WHITEOUT * 2) for part in reserved):
            self._refuse(path, "is below a whiteout")
        return bool(reserved) or name.startswith(WHITEOUT)

    def _add(self, path: str, info: tarfile.TarInfo) -> None:
        if not path:
            if info.isdir():
                root = self._tree.root
                root.mode, root.uid, root.gid = info.mode & 0o7777, info.uid, info.gid
            return
        if info.islnk():
            self._hard_link(path, info)
            return
        if info.issparse() or info.type not in _KINDS:
            self._refuse(path, "is of a kind that is not supported")
        node = guest_tree.Node(_KINDS[info.type], info.mode & 0o7777, info.uid, info.gid)
        if node.kind == guest_tree.SYMLINK:
            self._check_link(path, info.linkname)
            node.target = info.linkname
        elif node.kind == guest_tree.FILE:
            node.body = guest_tree.Body(info.size, self._archive, info.offset_data)
            if info.offset_data + info.size > self._size:
                blobs.corrupt(f"{self._label} ends in the middle of {path}")
        elif node.kind in (guest_tree.CHARACTER, guest_tree.BLOCK):
            node.device = (info.devmajor, info.devminor)
        self._put(path, node)

    def _put(self, path: str, node: guest_tree.Node) -> None:
        """As overlayfs shows it: an upper file hides a lower folder, and the other way round."""
        before = self._tree.find(path, follow=False)
        if before is not None and before.is_folder != node.is_folder:
            there = self._tree.find(path)
            if not (node.is_folder and there is not None and there.is_folder):
                self._tree.remove(path)
        self._tree.put(path, node)

    def _hard_link(self, path: str, info: tarfile.TarInfo) -> None:
        target = self._path(info.linkname)
        node = self._tree.find(target, follow=False)
        if node is None or node.is_folder or target == path:
            self._refuse(path, f"is a hard link to {info.linkname!r}, which is no earlier file")
        self._put(path, node)

    def _check_link(self, path: str, target: str) -> None:
        """An absolute target means the image's own root; a relative one may not climb above that."""
        if not target:
            self._refuse(path, "is a symbolic link to nothing")
        self._check_lengths(path, target)
        depth = 0 if target.startswith("/") else path.count("/")
        for part in guest_tree.parts_of(target):
            depth += -1 if part == ".." else 1
            if depth < 0:
                self._refuse(path, f"is a link that leads out of the image, to {target!r}")
            if part.startswith(WHITEOUT):
                self._refuse(path, f"is a link to the name of a whiteout, {target!r}")
