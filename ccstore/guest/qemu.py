"""The QEMU command line of a run: a pure function of the image, the options and how ccstore is wired to it.

Root images are never written: pmem is mapped from a file that is opened read-only (`readonly=on`, and `unarmed=on`
tells the guest), virtio-blk has `read-only=on`. The container's root and the agent's two channels are what
hyperstart expects: a 9p share with the tag `hyperShared`, and virtio-serial ports with the names below.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ccstore.errors import CcError
from ccstore.guest.boot import BootImage, Disk
from ccstore.guest.options import Options, Share, Volume

CONTROL, TERMINAL = "sh.hyper.channel.0", "sh.hyper.channel.1"
SHARE_TAG, SHARE_IMAGE, SHARE_ROOTFS = "hyperShared", "ccstore", "rootfs"
MIB = 1 << 20
# how a device is called depends on what carries virtio: PCI on q35, memory-mapped registers on microvm
BUS = {"q35": "pci", "microvm": "device"}
MACHINE = {"q35": "q35", "microvm": "microvm,acpi=off"}
CPU = {"kvm": "host", "tcg": "max"}


@dataclass(frozen=True, slots=True)
class Wiring:
    """Where the guest's channels lead. `channels` are QEMU character devices without their ids (control, terminal);
    `root` is the folder that holds SHARE_IMAGE/SHARE_ROOTFS, `servers` are character devices of virtiofsd, one for
    each shared folder; `monitor` puts QEMU's own monitor behind Ctrl-A c."""

    channels: tuple[str, str] | None = None
    root: Share | None = None
    servers: tuple[str, ...] = ()
    monitor: bool = False


def arguments(image: BootImage, options: Options, wiring: Wiring) -> list[str]:
    """The arguments of qemu-system-x86_64, the console on its stdin and stdout. Raises `vmm-unfit`."""
    bus = BUS[options.machine]
    command = [*_machine(image, options), *_kernel(image, options), *_console(image, options, wiring, bus)]
    command += [
        "-object",
        "rng-random,id=rng0,filename=/dev/urandom",
        "-device",
        f"virtio-rng-{bus},rng=rng0",
    ]
    if image.disk is not None:
        command += _root_disk(image.disk, image.name, options)
    for number, volume in enumerate(options.volumes):
        command += _volume(volume, f"volume{number}", bus)
    for number, share in enumerate(options.shares):
        name = f"share{number}"
        command += (
            _served(share, wiring.servers[number], name, bus) if wiring.servers else _share(share, name, bus)
        )
    if wiring.root is not None:
        command += _share(wiring.root, "root", bus)
    if options.network:
        command += _network(options, bus)
    return command


def _machine(image: BootImage, options: Options) -> Iterator[str]:
    pmem = image.disk if image.disk is not None and image.disk.device == "pmem" else None
    yield from ("-no-user-config", "-nodefaults", "-no-reboot", "-display", "none")
    shared = ",memory-backend=memory" if options.virtiofs else ""
    if shared:  # the file servers read and write the guest's memory
        yield from ("-object", f"memory-backend-memfd,id=memory,size={options.memory // MIB}M,share=on")
    yield from ("-machine", MACHINE[options.machine] + (",nvdimm=on" if pmem else "") + shared)
    yield from ("-accel", options.accelerator, "-cpu", CPU[options.accelerator], "-smp", str(options.cpus))
    memory = f"{options.memory // MIB}M"
    if pmem:
        most = options.memory + pmem.size
        memory += f",slots=1,maxmem={(most + MIB - 1) // MIB}M"
    yield from ("-m", memory)


def _kernel(image: BootImage, options: Options) -> Iterator[str]:
    yield from ("-kernel", str(image.kernel))
    if image.initrd is not None:
        yield from ("-initrd", str(image.initrd))
    yield from ("-append", f"{image.cmdline} {options.append}".strip())


def console_device(cmdline: str) -> str:
    """`hvc0` or `ttyS0`: what the last console= that QEMU can offer names, as that one is /dev/console."""
    for word in reversed(cmdline.split()):
        if word.startswith("console=hvc"):
            return "hvc0"
        if word.startswith("console=ttyS0"):
            return "ttyS0"
    return "ttyS0"


def _console(image: BootImage, options: Options, wiring: Wiring, bus: str) -> Iterator[str]:
    mux = ",mux=on" if wiring.monitor else ""
    yield from ("-chardev", f"stdio,id=console,signal=off{mux}")
    if wiring.monitor:
        yield from ("-mon", "chardev=console")
    virtual = console_device(f"{image.cmdline} {options.append}") == "hvc0"
    if not virtual:
        yield from ("-serial", "chardev:console")
    if virtual or wiring.channels:
        yield from ("-device", f"virtio-serial-{bus},id=ports")
    if virtual:
        yield from ("-device", "virtconsole,chardev=console")
    for number, (channel, name) in enumerate(zip(wiring.channels or (), (CONTROL, TERMINAL), strict=False)):
        yield from ("-chardev", f"{channel},id=channel{number}")
        yield from ("-device", f"virtserialport,chardev=channel{number},name={name}")


def _root_disk(disk: Disk, name: str, options: Options) -> Iterator[str]:
    if disk.device == "virtio-blk":
        yield from _volume(Volume(disk.file, read_only=True), "disk", BUS[options.machine])
        return
    if options.machine == "microvm":
        message = f"{name} has its root on persistent memory, which a microvm has not"
        raise CcError(
            "vmm-unfit", message, hint="use --machine q35, or a format with an initrd or virtio-blk"
        )
    backend = f"memory-backend-file,id=disk,mem-path={quoted(disk.file)},size={disk.size}"
    yield from ("-object", f"{backend},share=on,readonly=on")
    yield from ("-device", "nvdimm,id=nvdimm0,memdev=disk,unarmed=on")


def _volume(volume: Volume, name: str, bus: str) -> Iterator[str]:
    mode = "on" if volume.read_only else "off"
    driver = "host_device" if volume.device else "file"
    file = f"file.driver={driver},file.filename={quoted(volume.file)}"
    yield from ("-blockdev", f"driver=raw,node-name={name},read-only={mode},{file}")
    yield from ("-device", f"virtio-blk-{bus},drive={name}")


def _share(share: Share, name: str, bus: str) -> Iterator[str]:
    mode = ",readonly=on" if share.read_only else ""
    backend = f"local,id={name},path={quoted(share.folder)},security_model=none,multidevs=remap{mode}"
    yield from ("-fsdev", backend)
    yield from ("-device", f"virtio-9p-{bus},fsdev={name},mount_tag={quoted(share.tag)}")


def _served(share: Share, server: str, name: str, bus: str) -> Iterator[str]:
    yield from ("-chardev", f"{server},id={name}")
    yield from ("-device", f"vhost-user-fs-{bus},chardev={name},tag={quoted(share.tag)}")


def _network(options: Options, bus: str) -> Iterator[str]:
    forwards = "".join(
        f",hostfwd={each.protocol}:{each.address}:{each.host}-:{each.guest}" for each in options.publish
    )
    yield from ("-netdev", f"user,id=net0{forwards}")
    # without its boot ROM: the kernel is given, and the file would be one more thing to have
    yield from ("-device", f"virtio-net-{bus},netdev=net0" + (",romfile=" if bus == "pci" else ""))


def quoted(value: object) -> str:
    """A value inside one of QEMU's comma-separated options."""
    return str(value).replace(",", ",,")


def shell_line(command: Sequence[str]) -> str:
    """The command as it can be pasted into a shell, an option a line."""
    import shlex

    lines = [shlex.quote(command[0])]
    for word in command[1:]:
        if word.startswith("-") and len(word) > 1:
            lines.append(shlex.quote(word))
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return " \\\n  ".join(lines)
