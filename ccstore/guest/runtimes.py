"""Configuration files of container runtimes that boot a guest of ours.

    cc-oci-runtime (Clear Containers 2)   vm.json and hypervisor.args, with @TAGS@ that the runtime fills in
    cc-runtime (Clear Containers 3)       configuration.toml
    kata (Kata Containers 2 and 3)        configuration.toml

Each is complete: it replaces the file that the runtime came with. Clear Containers gives the guest its image as an
nvdimm and talks to hyperstart. Kata names the root itself, the first partition of /dev/pmem0 or /dev/vda, or sets
dm-verity up on the first two, so those parameters are left to it. Sources: the README of cc-oci-runtime;
config/configuration.toml.in of cc-runtime 3.0; src/runtime of Kata Containers 3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ccstore.errors import CcError
from ccstore.guest.boot import BootImage, Disk

Runtime = Literal["cc-oci-runtime", "cc-runtime", "kata"]
HYPERVISOR = "/usr/bin/qemu-system-x86_64"
MIB = 1 << 20
KATA_LEAST_MEMORY = 256  # MiB; with less Kata takes its own default
_WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')
_ROOT_PARAMETERS = ("root", "rootflags", "rootfstype", "ro", "rw", "dm-mod.create")


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """The files by name, the main one first, and what a user should know of them."""

    files: Mapping[str, str]
    notes: tuple[str, ...] = field(default=())


def runtime_config(folder: Path, runtime: Runtime, hypervisor: str = HYPERVISOR) -> RuntimeConfig:
    """What `runtime` reads to boot the bootable folder `folder` with the QEMU at `hypervisor`.

    Raises `runtime-unfit` for a guest that it cannot boot, and what BootImage.read raises.
    """
    image = BootImage.read(folder)
    if runtime == "kata":
        return _kata(image, _kata_verity(folder), hypervisor)
    disk = _clear_disk(image, runtime)
    if runtime == "cc-runtime":
        return _cc_runtime(image, disk, hypervisor)
    return _cc_oci_runtime(image, disk, hypervisor)


def _clear_disk(image: BootImage, runtime: str) -> Disk:
    """The image file, if Clear Containers can boot it."""
    if image.disk is None or image.disk.device != "pmem" or image.kernel.name != "vmlinux":
        raise _unfit(image, runtime, f"the format {image.format}", f"use {image.name}.vmlinux+pmem")
    if image.machine != "q35":
        raise _unfit(image, runtime, f"the machine {image.machine}", "set `machine: q35` in the recipe")
    if image.agent != "hyperstart":
        raise _unfit(image, runtime, "a guest without hyperstart", "set `agent: hyperstart` in the recipe")
    return image.disk


def _unfit(image: BootImage, runtime: str, what: str, hint: str) -> CcError:
    return CcError("runtime-unfit", f"{runtime} cannot boot {what}", where=image.name, hint=hint)


def _cc_oci_runtime(image: BootImage, disk: Disk, hypervisor: str) -> RuntimeConfig:
    vm = {
        "vm": {
            "path": hypervisor,
            "image": str(disk.file),
            "kernel": {"path": str(image.kernel), "parameters": image.cmdline},
        }
    }
    most = (image.memory + disk.size + MIB - 1) // MIB
    arguments = [
        hypervisor,
        *("-name", "@NAME@", "-uuid", "@UUID@"),
        *("-machine", "q35,accel=kvm,kernel_irqchip=on,nvdimm=on", "-cpu", "host"),
        *("-smp", "2,sockets=2,cores=1,threads=1"),
        *("-m", f"{image.memory // MIB}M,slots=2,maxmem={most}M"),
        # the image is shared by all guests and written by none
        *("-object", "memory-backend-file,id=mem0,mem-path=@IMAGE@,size=@SIZE@,share=on,readonly=on"),
        *("-device", "nvdimm,memdev=mem0,id=nv0,unarmed=on"),
        *("-kernel", "@KERNEL@", "-append", "@KERNEL_PARAMS@ @KERNEL_NET_PARAMS@"),
        *("-fsdev", "local,id=workload9p,path=@WORKLOAD_DIR@,security_model=none"),
        *("-device", "virtio-9p-pci,fsdev=workload9p,mount_tag=rootfs"),
        *("-rtc", "base=utc,driftfix=slew", "-global", "kvm-pit.lost_tick_policy=discard"),
        *("-no-user-config", "-nodefaults", "-nographic", "-vga", "none"),
        *("-device", "virtio-serial-pci,id=virtio-serial0"),
        *("-chardev", "@CONSOLE_DEVICE@", "-device", "virtconsole,chardev=charconsole0,id=console0"),
        *("-chardev", "@PROCESS_SOCKET@"),
        *_channel(0, "@AGENT_CTL_SOCKET@"),
        *_channel(1, "@AGENT_TTY_SOCKET@"),
        *("-qmp", "unix:@COMMS_SOCKET@,server=on,wait=off"),
    ]
    return RuntimeConfig(
        {"vm.json": json.dumps(vm, indent=2) + "\n", "hypervisor.args": "\n".join(arguments) + "\n"},
        ("both files belong in /etc/cc-oci-runtime, or in a container's bundle",),
    )


def _channel(number: int, socket: str) -> tuple[str, ...]:
    """A virtio-serial port as hyperstart looks for it."""
    port = f"virtserialport,bus=virtio-serial0.0,nr={number + 1},chardev=charch{number},id=channel{number}"
    return (
        *("-chardev", f"socket,id=charch{number},path={socket},server=on,wait=off"),
        *("-device", f"{port},name=sh.hyper.channel.{number}"),
    )


def _cc_runtime(image: BootImage, disk: Disk, hypervisor: str) -> RuntimeConfig:
    libexec = "/usr/libexec/clear-containers"
    value = {
        "hypervisor": {
            "qemu": {
                "path": hypervisor,
                "kernel": str(image.kernel),
                "image": str(disk.file),
                "machine_type": image.machine,
                "kernel_params": f"{image.cmdline} init=/sbin/init",
                "firmware": "",
                "machine_accelerators": "",
                "default_vcpus": -1,
                "default_bridges": 1,
                "default_memory": image.memory // MIB,
                "disable_block_device_use": False,
                "enable_mem_prealloc": False,
                "enable_hugepages": False,
                "enable_swap": False,
                "enable_debug": False,
                "disable_nesting_checks": False,
            }
        },
        "proxy": {"cc": {"path": f"{libexec}/cc-proxy", "enable_debug": False}},
        "shim": {"cc": {"path": f"{libexec}/cc-shim", "enable_debug": False}},
        "runtime": {"enable_debug": False},
    }
    return RuntimeConfig(
        {"configuration.toml": _toml(value)},
        (
            "it belongs in /etc/clear-containers",
            "cc-runtime adds init=/usr/lib/systemd/systemd itself: take a guest that has systemd",
        ),
    )


def _kata(image: BootImage, verity: str | None, hypervisor: str) -> RuntimeConfig:
    qemu: dict[str, Any] = {
        "path": hypervisor,
        "kernel": str(image.kernel),
        **_kata_root(image, verity),
        "machine_type": image.machine,
        "default_memory": max(image.memory // MIB, KATA_LEAST_MEMORY),
        "valid_hypervisor_paths": [hypervisor],
        **_KATA_QEMU,
    }
    value = {"hypervisor": {"qemu": qemu}, **_KATA_REST}
    notes = ["it belongs in /etc/kata-containers"]
    if image.agent != "kata":
        notes.append(
            f"Kata waits for kata-agent, this guest has {image.agent or 'no agent'}: it boots, and Kata gives up"
        )
    return RuntimeConfig({"configuration.toml": _toml(value)}, tuple(notes))


def _kata_root(image: BootImage, verity: str | None) -> dict[str, Any]:
    """The keys that say what the guest boots from."""
    if image.disk is None:
        return {"initrd": str(image.initrd), "kernel_params": image.cmdline}
    kind = image.format.partition("+")[2]
    if kind not in ("pmem", "erofs", "erofs+verity"):
        raise _unfit(
            image, "kata", f"the format {image.format}", f"use {image.name}.vmlinux+erofs, or an initrd"
        )
    keys: dict[str, Any] = {
        "image": str(image.disk.file),
        "rootfs_type": "ext4" if kind == "pmem" else "erofs",
        "disable_image_nvdimm": image.disk.device != "pmem",
        # an erofs without partitions is not where Kata looks: there our root= stays, and wins
        "kernel_params": image.cmdline if kind == "erofs" else without_root(image.cmdline),
    }
    if verity:
        keys["kernel_verity_params"] = verity
    return keys


def without_root(cmdline: str) -> str:
    """Kernel parameters without those that say where the root is."""
    words = (match[0] for match in _WORD.finditer(cmdline))
    return " ".join(word for word in words if word.partition("=")[0] not in _ROOT_PARAMETERS)


def _kata_verity(folder: Path) -> str | None:
    verity = json.loads((folder / "boot.json").read_text()).get("verity")
    return str(verity["kata"]) if verity else None


def _toml(value: Mapping[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(value)


# what a guest has no say in, as Kata's own file has it
_KATA_QEMU: Mapping[str, Any] = {
    "rootless": False,
    "enable_annotations": [],
    "firmware": "",
    "firmware_volume": "",
    "machine_accelerators": "",
    "seccompsandbox": "",
    "cpu_features": "pmu=off",
    "default_vcpus": 1,
    "default_maxvcpus": 0,
    "default_bridges": 1,
    "memory_slots": 10,
    "default_maxmemory": 0,
    "memory_offset": 0,
    "enable_virtio_mem": False,
    "disable_block_device_use": False,
    "shared_fs": "virtio-fs",
    "virtio_fs_daemon": "/usr/libexec/virtiofsd",
    "valid_virtio_fs_daemon_paths": ["/usr/libexec/virtiofsd"],
    "virtio_fs_cache_size": 0,
    "virtio_fs_queue_size": 1024,
    "virtio_fs_extra_args": ["--thread-pool-size=1", "--announce-submounts"],
    "virtio_fs_cache": "auto",
    "block_device_driver": "virtio-scsi",
    "block_device_aio": "io_uring",
    "enable_iothreads": False,
    "enable_mem_prealloc": False,
    "enable_hugepages": False,
    "enable_iommu": False,
    "enable_debug": False,
    "disable_nesting_checks": False,
    "hot_plug_vfio": "no-port",
    "cold_plug_vfio": "no-port",
    "pcie_root_port": 0,
    "disable_vhost_net": False,
    "entropy_source": "/dev/urandom",
    "valid_entropy_sources": ["/dev/urandom", "/dev/random"],
    "use_legacy_serial": False,
    "disable_selinux": False,
    "disable_guest_selinux": True,
}
_KATA_REST: Mapping[str, Any] = {
    "factory": {"enable_template": False, "vm_cache_number": 0},
    "agent": {
        "kata": {
            "enable_debug": False,
            "enable_tracing": False,
            "kernel_modules": [],
            "debug_console_enabled": False,
            "dial_timeout": 45,
        }
    },
    "runtime": {
        "enable_debug": False,
        "internetworking_model": "tcfilter",
        "disable_guest_seccomp": True,
        "enable_tracing": False,
        "disable_new_netns": False,
        "sandbox_cgroup_only": False,
        "static_sandbox_resource_mgmt": False,
        "sandbox_bind_mounts": [],
        "vfio_mode": "guest-kernel",
        "disable_guest_empty_dir": False,
        "experimental": [],
        "create_container_timeout": 60,
    },
}
