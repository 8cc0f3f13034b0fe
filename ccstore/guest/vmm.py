"""The other monitors: Firecracker, by its configuration file, and cloud-hypervisor, by its command line.

Both boot an uncompressed vmlinux on KVM alone. Neither has a user-mode network or 9p, so what asks for them, for the
agent's channels or for a machine type is refused. Sources: Firecracker's `docs/` and API (v1.7), for --config-file;
`cloud-hypervisor --help` (v38).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ccstore.errors import CcError
from ccstore.guest.boot import BootImage
from ccstore.guest.options import Options, Volume
from ccstore.guest.qemu import MIB, console_device

FIRECRACKER, CLOUD_HYPERVISOR = "firecracker", "cloud-hypervisor"
HOMES = {
    FIRECRACKER: "https://github.com/firecracker-microvm/firecracker",
    CLOUD_HYPERVISOR: "https://github.com/cloud-hypervisor/cloud-hypervisor",
}


def firecracker_config(image: BootImage, options: Options) -> str:
    """The JSON that `firecracker --no-api --config-file` reads. Raises `vmm-unfit`."""
    _check(FIRECRACKER, image, options)
    if image.disk is not None and image.disk.device == "pmem":
        raise _unfit(
            FIRECRACKER, image, "it has no persistent memory", "boot a format with an initrd or virtio-blk"
        )
    cmdline = _cmdline(image, options)
    if console_device(cmdline) != "ttyS0":
        cmdline += " console=ttyS0"  # it has no other
    boot: dict[str, Any] = {"kernel_image_path": str(image.kernel)}
    if image.initrd is not None:
        boot["initrd_path"] = str(image.initrd)
    boot["boot_args"] = cmdline
    disks = [Volume(image.disk.file, read_only=True)] if image.disk else []
    config = {
        "boot-source": boot,
        "machine-config": {"vcpu_count": options.cpus, "mem_size_mib": options.memory // MIB},
        # none is its "root device": that would add a root= of its own to the kernel's command line
        "drives": [
            {
                "drive_id": f"disk{number}",
                "path_on_host": str(disk.file),
                "is_root_device": False,
                "is_read_only": disk.read_only,
            }
            for number, disk in enumerate([*disks, *options.volumes])
        ],
        "entropy": {},
    }
    return json.dumps(config, indent=2, ensure_ascii=False)


def cloud_hypervisor_arguments(image: BootImage, options: Options) -> list[str]:
    """The arguments of `cloud-hypervisor`. Raises `vmm-unfit`."""
    _check(CLOUD_HYPERVISOR, image, options)
    virtual = console_device(_cmdline(image, options)) == "hvc0"
    command = ["--kernel", str(image.kernel), "--cmdline", _cmdline(image, options)]
    if image.initrd is not None:
        command += ["--initramfs", str(image.initrd)]
    command += ["--cpus", f"boot={options.cpus}", "--memory", f"size={options.memory // MIB}M"]
    command += ["--rng", "src=/dev/urandom"]
    command += ["--serial", "off" if virtual else "tty", "--console", "tty" if virtual else "off"]
    volumes = list(options.volumes)
    if image.disk is not None and image.disk.device == "pmem":
        command += ["--pmem", f"file={_quoted(image, image.disk.file)},discard_writes=on"]
    elif image.disk is not None:
        volumes.insert(0, Volume(image.disk.file, read_only=True))
    if volumes:
        command.append("--disk")
        command += [
            f"path={_quoted(image, each.file)},readonly={'on' if each.read_only else 'off'}"
            for each in volumes
        ]
    return command


def _quoted(image: BootImage, path: Path) -> str:
    """A path inside one of cloud-hypervisor's comma-separated options; it knows no way to write a quotation mark."""
    text = str(path)
    if '"' in text:
        hint = "rename the file, or use --vmm qemu"
        raise _unfit(CLOUD_HYPERVISOR, image, f"it cannot take the path {text}", hint)
    return f'"{text}"' if "," in text else text


def _cmdline(image: BootImage, options: Options) -> str:
    return f"{image.cmdline} {options.append}".strip()


def _check(monitor: str, image: BootImage, options: Options) -> None:
    if image.kernel.name != "vmlinux":
        raise _unfit(monitor, image, "it boots an uncompressed vmlinux", "boot a format that has one")
    if options.shares:
        raise _unfit(monitor, image, "it has no 9p", "leave --share out, or use --vmm qemu")
    if options.publish:
        raise _unfit(monitor, image, "it has no user-mode network", "leave --publish out, or use --vmm qemu")


def monitor_command(monitor: str, image: BootImage, options: Options, config: str) -> list[str]:
    """How to start it; `config` is the path of Firecracker's configuration. Raises `vmm-missing`, `vmm-unfit`."""
    found = shutil.which(monitor)
    if found is None:
        hint = f"install it from {HOMES[monitor]}, or use --dry-run to print its configuration"
        raise CcError("vmm-missing", f"this host has no {monitor}", hint=hint)
    if monitor == FIRECRACKER:
        return [found, "--no-api", "--config-file", config]
    return [found, *cloud_hypervisor_arguments(image, options)]


def _unfit(monitor: str, image: BootImage, reason: str, hint: str) -> CcError:
    return CcError(
        "vmm-unfit", f"{monitor} cannot boot {image.name} ({image.format}) so: {reason}", hint=hint
    )
