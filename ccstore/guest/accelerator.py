"""KVM where it works, software emulation where it does not.

That /dev/kvm is there says little: it may be closed to this user, and in a virtual machine or a container it may
refuse what a guest needs. So what costs nothing is asked of the kernel here, and a monitor that fails with KVM before
its guest printed anything is started again without it (`watch`). Where nothing is started, `kvm_refusal` tries it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Mapping, Sequence

DEVICE = "/dev/kvm"
KVM_GET_API_VERSION, KVM_CREATE_VM, KVM_CREATE_VCPU = 0xAE00, 0xAE01, 0xAE41  # linux/kvm.h
API_VERSION = 12
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


def kvm_problem(device: str = DEVICE) -> str:
    """Why KVM cannot be used, or nothing if it made a virtual machine with a processor."""
    opened: list[int] = []
    try:
        opened.append(os.open(device, os.O_RDWR | os.O_CLOEXEC))
        version = fcntl.ioctl(opened[0], KVM_GET_API_VERSION, 0)
        if version != API_VERSION:
            return f"{device} has version {version} of the interface, not {API_VERSION}"
        opened.append(fcntl.ioctl(opened[0], KVM_CREATE_VM, 0))
        opened.append(fcntl.ioctl(opened[1], KVM_CREATE_VCPU, 0))
    except OSError as error:
        return f"{device}: {error.strerror}"
    finally:
        for descriptor in reversed(opened):
            os.close(descriptor)
    return ""


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
