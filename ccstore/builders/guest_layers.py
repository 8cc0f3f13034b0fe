"""An OCI image as a tree: its layers put on top of one another, nothing trusted and nothing unpacked to disk.

Every blob is checked against its digest, every layer against the `diff_id` of the image's configuration. A layer's
archive is decompressed to one file, and the tree remembers where in it the bytes of its files are. Whiteouts take
away what lower layers have (`.wh.NAME`, and `.wh..wh..opq` for all of a folder), whatever their place in the layer.
Names and links that lead out of the image are refused; links on the way to a name are followed inside of it.

Source: OCI image specification 1.1 (image layout, layer filesystem changeset, image configuration). Stdlib only;
runs inside the sandbox, with its gzip module and the tools' zstd.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING or __package__:
    from ccstore.builders import guest_tree
else:
    import guest_tree

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
XATTR = "SCHILY.xattr."
MAX_LAYER = 16 << 30  # bytes, decompressed
MAX_ENTRIES = 1_000_000
MAX_JSON = 4 << 20
CHUNK = 1 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
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


class ImageWrong(Exception):  # noqa: N818 (it says of an image what is so)
    """The image is not what it says, or not safe; `code` is the error's."""

    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(message)


@dataclass
class Image:
    """A tree, and the `config` part of the image's configuration (empty for a tree of ours)."""

    tree: guest_tree.Tree = field(default_factory=guest_tree.Tree)
    config: dict[str, Any] = field(default_factory=dict)


def is_layout(folder: Path) -> bool:
    return (folder / "oci-layout").is_file() and (folder / "index.json").is_file()


def read_image(layout: Path, scratch: Path) -> Image:
    """The image in an OCI layout with one image; `scratch` is a folder for its layers. Raises ImageWrong."""
    manifest = _manifest(layout)
    config = _json(_blob(layout, manifest.get("config"), MAX_JSON))
    rootfs, layers = config.get("rootfs"), manifest.get("layers")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(layers, list) or not isinstance(diff_ids, list) or len(layers) != len(diff_ids):
        _corrupt("the manifest's layers and the configuration's are not as many")
    image = Image(config=_checked(config.get("config") or {}))
    for number, (layer, diff_id) in enumerate(zip(layers, diff_ids, strict=True)):
        blob = _blob(layout, layer, MAX_LAYER)
        archive = scratch / f"{number:03}.tar"
        _decompress(blob, archive, f"layer {number + 1} of {len(layers)}", diff_id)
        _Layer(image.tree, archive, f"layer {number + 1} of {len(layers)}").apply()
    return image


def _checked(config: Any) -> dict[str, Any]:
    """What a container takes from an image's configuration, if it is what the specification says."""
    if not isinstance(config, dict):
        _corrupt("its configuration is no mapping")
    for key, kind in _CONFIG.items():
        value = config.get(key)
        words = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if value is not None and not (
            isinstance(value, kind) and all(isinstance(each, str) for each in words)
        ):
            _corrupt(f"{key} of its configuration is {value!r:.100}")
    return {key: config[key] for key in _CONFIG if config.get(key)}


def _corrupt(message: str) -> NoReturn:
    raise ImageWrong("image-corrupt", f"the image is corrupt: {message}")


def _manifest(layout: Path) -> dict[str, Any]:
    value = _json(layout / "index.json")
    while "manifests" in value:  # an index may lead to an index
        found = [each for each in value["manifests"] if _fits(each)]
        if len(found) != 1:
            _corrupt(f"its index has {len(found)} images for linux/amd64, one is wanted")
        value = _json(_blob(layout, found[0], MAX_JSON))
    return value


def _fits(descriptor: Any) -> bool:
    if not isinstance(descriptor, dict):
        _corrupt("an entry of its index is no descriptor")
    platform = descriptor.get("platform") or {}
    return (platform.get("os", "linux"), platform.get("architecture", "amd64")) == ("linux", "amd64")


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_JSON:
        _corrupt(f"{path.name} is larger than {MAX_JSON} bytes")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ImageWrong("image-corrupt", f"the image is corrupt: {path.name} is no JSON: {error}") from error
    if not isinstance(value, dict):
        _corrupt(f"{path.name} is no mapping")
    return value


def _blob(layout: Path, descriptor: Any, most: int) -> Path:
    """The blob of a descriptor, its size and digest checked."""
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        _corrupt(f"{digest!r} is no digest")
    path = layout / "blobs" / "sha256" / digest.removeprefix("sha256:")
    if not path.is_file():
        _corrupt(f"the blob {digest} is missing")
    size = path.stat().st_size
    if size > most or size != descriptor.get("size", size):
        _corrupt(f"the blob {digest} has {size} bytes, {descriptor.get('size')} are wanted")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if f"sha256:{found}" != digest:
        _corrupt(f"the blob {digest} has the digest sha256:{found}")
    return path


def _decompress(blob: Path, archive: Path, label: str, diff_id: object) -> None:
    with blob.open("rb") as file:
        magic = file.read(4)
    try:
        if magic[:2] == b"\x1f\x8b":
            with gzip.open(blob) as source:
                digest = _copy(source, archive, label)
        elif magic == b"\x28\xb5\x2f\xfd":
            digest = _unzstd(blob, archive, label)
        else:
            with blob.open("rb") as source:
                digest = _copy(source, archive, label)
    except (OSError, EOFError, zlib.error) as error:
        raise ImageWrong("image-corrupt", f"the image is corrupt: {label}: {error}") from error
    if digest != diff_id:
        _corrupt(f"{label} has the content {digest}, the image's configuration wants {diff_id}")


def _copy(source: Any, archive: Path, label: str) -> str:
    """Copies what can be read from `source`; its digest."""
    digest = hashlib.sha256()
    total = 0
    with archive.open("wb") as sink:
        while chunk := source.read(CHUNK):
            total += len(chunk)
            if total > MAX_LAYER:
                raise ImageWrong("archive-refused", f"{label} has more than {MAX_LAYER} bytes")
            digest.update(chunk)
            sink.write(chunk)
    return f"sha256:{digest.hexdigest()}"


def _unzstd(blob: Path, archive: Path, label: str) -> str:
    argv = [shutil.which("zstd") or "/usr/bin/zstd", "-dcq", "--", str(blob)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        digest = _copy(process.stdout, archive, label)
    if process.returncode:
        _corrupt(f"{label}: zstd failed with exit status {process.returncode}")
    return digest


class _Layer:
    """One layer on its way into the tree."""

    def __init__(self, tree: guest_tree.Tree, archive: Path, label: str) -> None:
        self._tree, self._archive, self._label = tree, archive, label

    def apply(self) -> None:
        try:
            entries = self._entries()
            for path, _ in entries:
                self._whiteout(path)
            self._tell_of_attributes([info for _, info in entries])
            for path, info in entries:
                if not path.rpartition("/")[2].startswith(WHITEOUT):
                    self._add(path, info)
        except tarfile.TarError as error:
            _corrupt(f"{self._label} is no tar archive: {error}")
        except guest_tree.TreeWrong as error:
            raise ImageWrong("archive-refused", f"{self._label} is refused: {error}") from error

    def _tell_of_attributes(self, entries: list[tarfile.TarInfo]) -> None:
        """No image format of ours has extended attributes, such as the capabilities of a file."""
        names = [each.name for each in entries if any(key.startswith(XATTR) for key in each.pax_headers)]
        if names:
            print(f"{self._label}: extended attributes of {len(names)} files are left out: {names[0]!a}…")

    def _refuse(self, path: str, reason: str) -> NoReturn:
        shown = ascii(path)[1:-1]
        raise ImageWrong("archive-refused", f"{self._label} is refused: {shown[:200]} {reason}")

    def _entries(self) -> list[tuple[str, tarfile.TarInfo]]:
        found = []
        with tarfile.open(self._archive, "r:", encoding="utf-8", errors="surrogateescape") as tar:
            for info in tar:
                found.append((self._path(info.name), info))
                if len(found) > MAX_ENTRIES:
                    self._refuse(info.name, f"is one too many: {MAX_ENTRIES} entries are allowed")
            end = tar.offset
        with self._archive.open("rb") as file:  # tarfile takes a broken header for the end
            file.seek(end)
            while chunk := file.read(CHUNK):
                if chunk.strip(b"\0"):
                    _corrupt(f"{self._label} has a broken header at {end}")
        return found

    def _path(self, name: str) -> str:
        parts = guest_tree.parts_of(name)
        if ".." in parts:
            self._refuse(name, "has '..' in its name")
        return "/".join(parts)

    def _whiteout(self, path: str) -> None:
        folder, _, name = path.rpartition("/")
        if name == OPAQUE:
            there = self._tree.find(folder)
            if there is not None:
                there.children.clear()
        elif name.startswith(WHITEOUT) and not name.startswith(WHITEOUT * 2):  # others are aufs' own
            self._tree.remove(f"{folder}/{name.removeprefix(WHITEOUT)}")

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
            if info.offset_data + info.size > self._archive.stat().st_size:
                _corrupt(f"{self._label} ends in the middle of {path}")
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
        depth = 0 if target.startswith("/") else path.count("/")
        for part in guest_tree.parts_of(target):
            depth += -1 if part == ".." else 1
            if depth < 0:
                self._refuse(path, f"is a link that leads out of the image, to {target!r}")
