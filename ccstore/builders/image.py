"""A guest's formats: from its root and a kernel to what boots (runs inside the sandbox).

Inputs: `rootfs` (rootfs.tar and sizes.json) and `kernel` (vmlinux, bzImage); the request is the builder's file
`image.json` (image_common). $out becomes a folder:

    vmlinux or bzImage        the kernel, and
    initrd.img or root.img    the root;
    cmdline                   the whole kernel command line, one line;
    boot.json                 how they belong together: what a launcher has to know;
    sizes.json                bytes by component and by file

The format `tar` gives the root as one archive, with the kernel in its /boot, and sizes.json.

Failures: `image-too-large`, `kernel-missing`, `recipe-invalid`. When a tool fails, its output in the log says why.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from ccstore.builders import image_common as common
    from ccstore.builders import image_cpio, image_erofs, image_pmem, image_tar, image_verity
else:  # inside the sandbox, where there is no ccstore
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import image_common as common
    import image_cpio
    import image_erofs
    import image_pmem
    import image_tar
    import image_verity

ROOTFS = Path("/in/rootfs")
KERNEL = Path("/in/kernel")
OUT = Path("/out/out")
LARGEST = 10  # components that are named when an image is too large


@dataclass(frozen=True)
class Made:
    """The root in its image: what the kernel must be told, and what boot.json says of it.

    `device` is what a disk is attached as; None for an initrd.
    """

    image: str
    parameters: str
    device: str | None = None
    verity: dict[str, object] | None = None


def initrd(root: common.Root) -> Made:
    try:
        image_cpio.make_initrd(root.archive, OUT / "initrd.img")
    except image_cpio.TooLargeError as error:
        common.fail("recipe-invalid", str(error), hint="an initrd cannot hold it; choose a disk format")
    return Made("initrd.img", "")


def pmem(root: common.Root) -> Made:
    image_pmem.make_pmem(root, OUT / "root.img")
    return _disk("pmem", "root=/dev/pmem0p1 rootflags=dax,data=ordered,errors=remount-ro ro rootfstype=ext4")


def erofs(root: common.Root) -> Made:
    image_erofs.make_erofs(root, OUT / "root.img")
    return _disk("virtio-blk", "root=/dev/vda ro rootfstype=erofs")


def squashfs(root: common.Root) -> Made:
    image_erofs.make_squashfs(root, OUT / "root.img")
    return _disk("virtio-blk", "root=/dev/vda ro rootfstype=squashfs")


def verity(root: common.Root) -> Made:
    made = image_verity.make_verity(root, OUT / "root.img")
    parameters = f"{made.cmdline('/dev/vda')} root=/dev/dm-0 ro rootfstype=erofs"
    return _disk("virtio-blk", parameters, made.value())


def _disk(device: str, parameters: str, verity: dict[str, object] | None = None) -> Made:
    return Made("root.img", parameters, device, verity)


FORMATS: dict[str, Callable[[common.Root], Made]] = {
    "initrd": initrd,
    "pmem": pmem,
    "erofs": erofs,
    "erofs+verity": verity,
    "squashfs": squashfs,
}
KERNELS = {"vmlinux": "vmlinux", "kernel": "bzImage"}


def main() -> None:
    request = json.loads(Path(__file__).with_name("image.json").read_text())
    OUT.mkdir()
    if request["format"] == "tar":
        image_tar.add_kernel(
            ROOTFS / "rootfs.tar", _kernel("bzImage"), request["cmdline"], OUT / "rootfs.tar"
        )
        image = "rootfs.tar"
    else:
        image = bootable(request)
    write_sizes(image, request["maxSize"])


def bootable(request: dict[str, Any]) -> str:
    """Makes everything but sizes.json; returns the name of the root's image."""
    kind, _, root_format = request["format"].partition("+")
    if request["machine"] == "microvm" and root_format == "pmem":
        hint = "choose another format, or `machine: q35`"
        common.fail("recipe-invalid", f"the machine microvm has no nvdimm for {request['format']}", hint=hint)
    kernel = KERNELS[kind]
    shutil.copyfile(_kernel(kernel), OUT / kernel)
    made = FORMATS[root_format](common.Root.read(ROOTFS / "rootfs.tar"))
    cmdline = join_cmdline(request["cmdline"], made.parameters)
    (OUT / "cmdline").write_text(cmdline + "\n")
    boot = {
        "version": 1,
        "name": request["name"],
        "format": request["format"],
        "kernel": kernel,
        "initrd": None if made.device else made.image,
        "disk": {"file": made.image, "device": made.device} if made.device else None,
        "cmdline": cmdline,
        "machine": request["machine"],
        "memory": request["memory"],
        "agent": request["agent"],
        "verity": made.verity,
    }
    (OUT / "boot.json").write_text(json.dumps(boot, indent=2) + "\n")
    return made.image


def _kernel(name: str) -> Path:
    path = KERNEL / name
    if not path.is_file():
        there = ", ".join(sorted(each.name for each in KERNEL.iterdir())) or "nothing"
        hint = "choose a format that begins with `vmlinux+`" if name == "bzImage" else "see `kernel: image:`"
        common.fail("kernel-missing", f"the kernel has no {name}, only {there}", hint=hint)
    return path


def join_cmdline(recipe: str, parameters: str) -> str:
    """The recipe's command line with the format's parameters; of two that contradict, the kernel takes the last.

    What follows `--` goes to init, and so stays last.
    """
    words, dashes, to_init = f" {recipe} ".partition(" -- ")
    return " ".join(f"{words} {parameters} {dashes} {to_init}".split())


def write_sizes(image: str, most: int | None) -> None:
    """Writes sizes.json; fails if `image` has more than `most` bytes."""
    sizes = json.loads((ROOTFS / "sizes.json").read_text())
    files = {each.name: each.stat().st_size for each in sorted(OUT.iterdir())}
    value = {"components": sizes["components"], "total": sizes["total"], "files": files, "image": image}
    (OUT / "sizes.json").write_text(json.dumps({**value, "max-size": most}, indent=2) + "\n")
    if most is not None and files[image] > most:
        _too_large(image, files[image], most, sizes["components"])


def _too_large(image: str, size: int, most: int, components: dict[str, int]) -> None:
    largest = sorted(components.items(), key=lambda item: (-item[1], item[0]))[:LARGEST]
    common.fail(
        "image-too-large",
        f"{image} has {size:,} bytes, {size - most:,} more than `max-size`, {most:,}",
        hint="take something out, or raise `max-size`; `ccstore show TARGET --sizes` shows what is in it",
        details=(
            "largest components, in bytes before compression:",
            *(f"{bytes_:>14,}  {name}" for name, bytes_ in largest),
        ),
    )


if __name__ == "__main__":
    main()
