"""KVM where it works, software emulation where it does not.

That /dev/kvm is there says little: it may be closed to this user, and in a virtual machine or a container it may
refuse what a guest needs, or emulate the processor slowly until it meets an instruction that it does not know. So a
virtual machine of two instructions is run here, and a monitor that fails with KVM before its guest printed anything
is started again without it (`watch`). Where nothing is started, `kvm_refusal` asks the monitor.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

DEVICE = "/dev/kvm"
# linux/kvm.h
KVM_GET_API_VERSION, KVM_CREATE_VM, KVM_GET_VCPU_MMAP_SIZE, KVM_CREATE_VCPU = 0xAE00, 0xAE01, 0xAE04, 0xAE41
KVM_SET_TSS_ADDR, KVM_SET_USER_MEMORY_REGION = 0xAE47, 0x4020AE46
KVM_GET_SREGS, KVM_SET_SREGS, KVM_SET_REGS, KVM_RUN = 0x8138AE83, 0x4138AE84, 0x4090AE82, 0xAE80
API_VERSION = 12
REGION = struct.Struct("=IIQQQ")  # slot, flags, where the guest and this process see it
# base, limit, selector, type, present, dpl, db, s, l, g, avl, unusable, padding
SEGMENT = struct.Struct("=QIH10B")
CONTROL = struct.Struct("=7Q")  # cr0, cr2, cr3, cr4, cr8, efer, apic_base
SREGS_SIZE, SEGMENTS_AT, CONTROL_AT = 312, 0, 224
REGS = struct.Struct("=18Q")  # rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 to r15, rip, rflags
EXIT_REASON = struct.Struct("=8xI")
EXIT_HALTED = 5
EXITS = {8: "shutdown", 9: "failed entry", 17: "internal error"}

# Linux's allocator takes cmpxchg16b wherever the processor has it, and KVM's own emulator does not know it
HALT = b"\xf4"
TRIAL_CODE = b"\xf0\x48\x0f\xc7\x0e" + HALT  # lock cmpxchg16b [rsi]
DATA, TABLES, CODE, MEMORY = 0x100, 0x1000, 0x4000, 0x8000
TSS = 0x4000_0000  # three pages where this machine has no memory
# the first processor is set up before the monitor reads its first command
TRIAL = (
    "-no-user-config",
    "-nodefaults",
    "-display",
    "none",
    "-machine",
    "q35",
    "-accel",
    "kvm",
    "-cpu",
    "host",
)
TRIAL_SECONDS = 10


def kvm_problem(device: str = DEVICE, code: bytes = TRIAL_CODE) -> str:
    """Why KVM cannot be used, or nothing if a virtual machine ran `code` to its `hlt`, in long mode."""
    try:
        with ExitStack() as opened:
            reason = _run(opened, device, code)
    except OSError as error:
        return f"{device}: {error.strerror}"
    except ValueError as error:
        return f"{device}: {error}"
    if reason == EXIT_HALTED:
        return ""
    return f"{device}: a trial's two instructions ended in {EXITS.get(reason, f'exit {reason}')}"


def _run(opened: ExitStack, device: str, code: bytes) -> int:
    """Why the virtual machine stopped (KVM_EXIT_ in linux/kvm.h). Raises OSError and ValueError."""

    def kept(descriptor: int) -> int:
        opened.callback(os.close, descriptor)
        return descriptor

    kvm = kept(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    version = fcntl.ioctl(kvm, KVM_GET_API_VERSION, 0)
    if version != API_VERSION:
        raise ValueError(f"version {version} of the interface, not {API_VERSION}")
    machine = kept(fcntl.ioctl(kvm, KVM_CREATE_VM, 0))
    fcntl.ioctl(machine, KVM_SET_TSS_ADDR, TSS)
    memory = _memory(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(machine, KVM_SET_USER_MEMORY_REGION, REGION.pack(0, 0, 0, MEMORY, address))
    processor = kept(fcntl.ioctl(machine, KVM_CREATE_VCPU, 0))
    _set_registers(processor)
    size = fcntl.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)
    with mmap.mmap(processor, size) as run:
        fcntl.ioctl(processor, KVM_RUN, 0)
        [reason] = EXIT_REASON.unpack_from(run)
    return int(reason)


def _memory(code: bytes) -> mmap.mmap:
    """The machine's memory: `code`, and page tables that map the first 2 MiB to themselves."""
    memory = mmap.mmap(-1, MEMORY)
    present, large = 0x3, 0x80
    entries = (TABLES + 0x1000 | present, TABLES + 0x2000 | present, large | present)
    for level, entry in enumerate(entries):
        struct.pack_into("=Q", memory, TABLES + level * 0x1000, entry)
    memory[CODE : CODE + len(code)] = code
    return memory


def _set_registers(processor: int) -> None:
    """Long mode at privilege 0, as a kernel runs (Intel SDM volume 3, 4.5 and 10.8.5)."""
    special = bytearray(SREGS_SIZE)
    fcntl.ioctl(processor, KVM_GET_SREGS, special)
    segments = [SEGMENT.pack(0, 0xFFFF_FFFF, 8, 11, 1, 0, 0, 1, 1, 1, 0, 0, 0)]  # cs
    segments += 5 * [SEGMENT.pack(0, 0xFFFF_FFFF, 16, 3, 1, 0, 1, 1, 0, 1, 0, 0, 0)]  # ds, es, fs, gs, ss
    special[SEGMENTS_AT : 6 * SEGMENT.size] = b"".join(segments)
    *_, apic = CONTROL.unpack_from(special, CONTROL_AT)
    paging_protected, extended_addresses, long_active = 0x8005_0033, 0x20, 0x500
    CONTROL.pack_into(
        special, CONTROL_AT, paging_protected, 0, TABLES, extended_addresses, 0, long_active, apic
    )
    fcntl.ioctl(processor, KVM_SET_SREGS, special)
    fcntl.ioctl(processor, KVM_SET_REGS, REGS.pack(0, 0, 0, 0, DATA, *11 * [0], CODE, 2))


def kvm_refusal(prefix: Sequence[str], env: Mapping[str, str]) -> str:
    """Why the QEMU that `prefix` starts cannot use KVM, or nothing if it made a machine without running it."""
    command = [*prefix, *TRIAL, "-S", "-monitor", "stdio"]
    try:
        done = subprocess.run(
            command,
            input="quit\n",
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, **env},
            timeout=TRIAL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"QEMU hangs with it for {TRIAL_SECONDS} s"
    if done.returncode == 0:
        return ""
    return next((line for line in done.stderr.splitlines() if line.strip()), f"status {done.returncode}")
