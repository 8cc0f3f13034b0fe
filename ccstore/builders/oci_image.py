"""An OCI image layout of a kernel or of a guest's root (runs inside the sandbox).

The request is the builder's file `oci.json`: {"image": "kernel" | "root", "labels": {…}, "entrypoint": […] | null,
"maxSize": bytes | null}. $out becomes the canonical layout of ccstore.codec.oci: `oci-layout`, `index.json` with one
descriptor, `blobs/sha256/`. Layers are tar (pax, sorted, owned by root, times at SOURCE_DATE_EPOCH) compressed by the
toolchain's zlib, so the digest is the same wherever this runs. Blobs that are larger together than `maxSize` are
refused: `image-too-large`.

kernel: inputs `kernel` and `dev`, the two outputs of a kernel. The files of the image are those of LinuxKit's kernel
packages: /kernel (the vmlinux), /bzImage, /kernel-source-info, /kernel.tar (lib/modules), /kernel-headers.tar
(usr/include), /kernel-dev.tar (usr/src/linux-headers-<release>). Each tar is a layer of its own, so a registry
that has one need not be sent it again.

root: input `rootfs`, whose rootfs.tar is the one layer, as it is: owners, modes and devices are its own.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

KERNEL = Path("/in/kernel")
DEV = Path("/in/dev")
ROOTFS = Path("/in/rootfs/rootfs.tar")
SCRATCH = Path("/build")
OUT = Path("/out/out")

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
INDEX = "application/vnd.oci.image.index.v1+json"
PLATFORM = {"architecture": "amd64", "os": "linux"}
VERSION_LABEL = "org.opencontainers.image.version"
CHUNK = 1 << 20


@dataclass(frozen=True)
class Blob:
    digest: str
    size: int

    def descriptor(self, media_type: str) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class Layer:
    blob: Blob
    diff_id: str
    comment: str


class Hashed(io.RawIOBase):
    """A file that knows the digest and size of what was written to it, and hands it on."""

    def __init__(self, to: BinaryIO | gzip.GzipFile) -> None:
        self._to, self._seen, self.size = to, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._seen.update(data)
        self.size += len(data)
        self._to.write(data)
        return len(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._seen.hexdigest()}"


class Layout:
    """The layout that is being written to `folder`."""

    def __init__(self, folder: Path, epoch: int) -> None:
        self.folder, self.epoch = folder, epoch
        self._blobs = folder / "blobs/sha256"
        self._blobs.mkdir(parents=True)

    def add_bytes(self, data: bytes) -> Blob:
        blob = Blob(f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
        self._place(blob.digest).write_bytes(data)
        return blob

    def add_layer(self, tar: Iterable[bytes], comment: str) -> Layer:
        """A layer out of the bytes of its tar."""
        path = self.folder / ".layer"
        with path.open("wb") as file:
            packed = Hashed(file)
            # a name or a time in the gzip header would be this build's
            with gzip.GzipFile("", "wb", 6, packed, mtime=0) as squeezed:
                plain = Hashed(squeezed)
                for chunk in tar:
                    plain.write(chunk)
        path.rename(self._place(packed.digest))
        return Layer(Blob(packed.digest, packed.size), plain.digest, comment)

    def finish(self, layers: list[Layer], config: dict[str, Any]) -> None:
        """Writes config, manifest and index."""
        created = datetime.fromtimestamp(self.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        blob = self.add_bytes(
            canonical(
                {
                    **PLATFORM,
                    "created": created,
                    "config": config,
                    "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in layers]},
                    "history": [{"created": created, "created_by": each.comment} for each in layers],
                }
            )
        )
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": blob.descriptor(CONFIG),
            "layers": [each.blob.descriptor(LAYER) for each in layers],
        }
        entry = {**self.add_bytes(canonical(manifest)).descriptor(MANIFEST), "platform": PLATFORM}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
        (self.folder / "index.json").write_bytes(canonical(index))
        (self.folder / "oci-layout").write_bytes(canonical({"imageLayoutVersion": "1.0.0"}))

    def _place(self, digest: str) -> Path:
        return self._blobs / digest.removeprefix("sha256:")


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def write_tar(to: Path, members: Iterable[tuple[str, Path | None]], epoch: int) -> Path:
    """Writes files, folders (also one that is only a name: None) and links to the tar `to`, in the given order."""
    with tarfile.open(to, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in members:
            member = tarfile.TarInfo(name)
            member.mtime, member.mode = epoch, 0o755
            if path is None or (path.is_dir() and not path.is_symlink()):
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            elif path.is_symlink():
                member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
                tar.addfile(member)
            else:
                status = path.stat()
                member.size, member.mode = status.st_size, 0o755 if status.st_mode & 0o100 else 0o644
                with path.open("rb") as file:
                    tar.addfile(member, file)
    return to


def below(folder: Path, name: str) -> Iterable[tuple[str, Path | None]]:
    """`folder` as `name`, with the folders that lead to it and everything in it, sorted."""
    parts = name.split("/")
    yield from (("/".join(parts[:count]), None) for count in range(1, len(parts)))
    yield (name, None)
    if folder.is_dir():
        found = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        yield from ((f"{name}/{each}", folder / each) for each in sorted(found))


def source_info(text: str) -> dict[str, str]:
    """The lines `key: value` of kernel-source-info."""
    return {key: value for key, _, value in (line.partition(": ") for line in text.splitlines())}


def kernel_layers(layout: Layout, release: str) -> list[Layer]:
    """The kernel and its tars, what changes least first."""
    modules = KERNEL / "lib/modules" / release
    tars = {
        "kernel-headers.tar": below(DEV / "usr/include", "usr/include"),
        "kernel-dev.tar": below(DEV / "build", f"usr/src/linux-headers-{release}"),
        "kernel.tar": below(modules, f"lib/modules/{release}"),
    }
    layers = []
    for name, members in tars.items():
        inner = write_tar(SCRATCH / name, members, layout.epoch)
        layers.append(file_layer(layout, {name: inner}))
        inner.unlink()
    files = {
        "bzImage": KERNEL / "bzImage",
        "kernel": KERNEL / "vmlinux",
        "kernel-source-info": KERNEL / "kernel-source-info",
    }
    return [*layers, file_layer(layout, files)]


def file_layer(layout: Layout, files: dict[str, Path]) -> Layer:
    outer = write_tar(SCRATCH / "layer.tar", sorted(files.items()), layout.epoch)
    try:
        return layout.add_layer(read(outer), " ".join(f"/{name}" for name in sorted(files)))
    finally:
        outer.unlink()


def main() -> None:
    request = json.loads(Path(__file__).with_name("oci.json").read_text())
    layout = Layout(OUT, int(os.environ["SOURCE_DATE_EPOCH"]))
    labels: dict[str, str] = request["labels"]
    if request["image"] == "kernel":
        info = source_info((KERNEL / "kernel-source-info").read_text())
        labels = {VERSION_LABEL: info["version"], **labels}
        layers = kernel_layers(layout, info["release"])
    else:
        layers = [layout.add_layer(read(ROOTFS), "rootfs.tar")]
    config: dict[str, Any] = {"Labels": labels, "WorkingDir": "/"}
    if request["entrypoint"]:
        config["Entrypoint"] = request["entrypoint"]
    layout.finish(layers, config)
    check_size(request["maxSize"])


def check_size(limit: int | None) -> None:
    size = sum(path.stat().st_size for path in (OUT / "blobs/sha256").iterdir())
    if limit is not None and size > limit:
        message = f"the image has {size} bytes, {limit} are allowed"
        hint = "leave something out, or raise max-size"
        report = {"code": "image-too-large", "message": message, "hint": hint}
        Path(os.environ["CCSTORE_REPORT"]).write_text(json.dumps(report))
        raise SystemExit(message)


if __name__ == "__main__":
    main()
