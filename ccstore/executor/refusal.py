"""Why a sandbox could not be made, in words that a user can act on.

Settings are read only after something was refused, to name the one that did it.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from ccstore.errors import CcError

DENIED = (errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS, errno.EINVAL, errno.ENOSYS)
# both are needed: the default profile forbids namespaces, and a /proc with hidden parts forbids another one
IN_DOCKER = "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined …"
KINDS = ("user", "mnt", "pid", "net", "uts", "ipc", "cgroup")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a sandbox needs. `problem` is empty when the host allows it, else `remedy` says what to do."""

    name: str
    problem: str = ""
    remedy: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem


@dataclass(frozen=True, slots=True)
class Refusal:
    """What `enter` reports when a step is refused (see its docstring)."""

    stage: str
    step: str
    errno: int | None

    @property
    def reason(self) -> str:
        return os.strerror(self.errno) if self.errno else "an unexpected error"

    def error(self, where: str, details: tuple[str, ...] = ()) -> CcError:
        """The one error that a user gets to see."""
        if self.errno in (errno.ENOSPC, errno.EDQUOT) and self.stage == "operation":
            message = f"the disk filled up while the sandbox was made ({self.step})"
            return CcError("disk-full", message, where=where, hint="free some space, or run `ccstore gc`")
        finding = self._finding()
        if finding is not None:
            return CcError("no-userns", finding.problem, where=where, hint=finding.remedy, details=details)
        message = f"the sandbox could not be made: {self.step}: {self.reason}"
        return CcError("sandbox-failed", message, where=where, hint=self._hint(), details=details)

    def _finding(self) -> Finding | None:
        if self.stage == "namespaces" and self.errno in DENIED:
            return _namespaces_refused(self)
        if self.stage == "operation" and self.errno in DENIED and self.step.startswith("mount -t proc"):
            return _proc_refused(self)
        return None

    def _hint(self) -> str:
        if self.step.startswith("mount -t overlay"):
            return (
                "the store must lie on a file system that can be an overlay's upper layer (ext4, xfs, btrfs; not "
                "overlayfs itself, nor NFS), with Linux 5.11 or newer"
            )
        if self.errno == errno.EROFS:
            return "the toolchain's tree must have the folders in, build, out, tmp, dev and proc"
        return "`ccstore doctor` says what this host can do"


def forbidden_by(proc: Path = Path("/proc")) -> Finding:
    """Which setting forbids user namespaces, as far as the host's settings tell."""
    name = "user namespaces"
    for kind in KINDS:
        if _read(proc / f"sys/user/max_{kind}_namespaces") == "0":
            setting = f"user.max_{kind}_namespaces"
            remedy = f"sudo sysctl -w {setting}=15000 (and in /etc/sysctl.d/ to keep it)"
            return Finding(name, f"this host forbids user namespaces: {setting} is 0", remedy)
    if _read(proc / "sys/kernel/unprivileged_userns_clone") == "0":
        problem = "this host forbids user namespaces to ordinary users: kernel.unprivileged_userns_clone is 0"
        return Finding(name, problem, "sudo sysctl -w kernel.unprivileged_userns_clone=1")
    if _read(proc / "sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        problem = "AppArmor forbids user namespaces: kernel.apparmor_restrict_unprivileged_userns is 1"
        remedy = (
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or a profile that allows userns"
        )
        return Finding(name, problem, remedy)
    if not (proc / "self/ns/user").exists():
        return Finding(name, "this kernel has no user namespaces (CONFIG_USER_NS)", "boot another kernel")
    if "\nSeccomp:\t2" in _read(proc / "self/status"):
        problem = (
            "a seccomp filter forbids user namespaces: this is probably a container with the default profile"
        )
        remedy = f"start it with {IN_DOCKER}, or run ccstore outside of it"
        return Finding(name, problem, remedy)
    problem = (
        "this host forbids user namespaces (a chroot, an SELinux or other security policy, or 32 levels deep)"
    )
    return Finding(name, problem, "run ccstore outside of it, or use `--executor docker`")


def _read(path: Path) -> str:
    """A setting, or nothing where this kernel has no such setting."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""


def _namespaces_refused(refusal: Refusal) -> Finding:
    found = forbidden_by()
    return Finding(found.name, f"{found.problem} ({refusal.step}: {refusal.reason})", found.remedy)


def _proc_refused(refusal: Refusal) -> Finding:
    problem = (
        f"this host does not let a sandbox mount its own /proc ({refusal.reason}): parts of /proc are hidden"
    )
    remedy = f"in a container: start it with {IN_DOCKER}"
    return Finding("a private /proc", problem, remedy)
