"""The small notations inside a guest's description: binds, limits, capabilities, modes.

LinuxKit's documentation (docs/yaml.md) says what they look like, capabilities(7) and getrlimit(2) which names there
are. Recipes are checked with these functions when they are loaded, and the builder of a root file system reads
with the same ones what an image's label says. Stdlib only; runs inside the sandbox too.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

_CAPABILITIES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
_LIMITS = """
CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME
"""
CAPABILITIES = tuple(f"CAP_{name}" for name in _CAPABILITIES.split())
LIMITS = tuple(_LIMITS.split())
UNLIMITED = 2**64 - 1
SIZES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}

_SIZE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,9}))? ?(B|kB|MB|GB|KiB|MiB|GiB)?", re.ASCII)
_MODE = re.compile(r"(?:0o)?([0-7]{1,5})", re.ASCII)
_ENV = re.compile(r"[^=]+=.*", re.DOTALL)
_DEVICE = re.compile(r"([cb]) ([0-9]{1,4}) ([0-9]{1,7})", re.ASCII)


class Bind(NamedTuple):
    """A bind mount; `source` is a path in the guest, or a volume's name. `options` is None if none are given."""

    source: str
    destination: str
    options: tuple[str, ...] | None

    @property
    def volume(self) -> str | None:
        return None if self.source.startswith("/") else self.source


def bind(text: str) -> Bind:
    """Reads `SOURCE:DESTINATION[:OPTION,…]`. Raises ValueError, as every function here does."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not parts[0] or not parts[1].startswith("/"):
        raise ValueError(f"should be /source:/destination[:options] or volume:/destination, not {text!r}")
    for part in parts[:2]:
        _no_climbing(part)
    return Bind(parts[0], parts[1], tuple(parts[2].split(",")) if len(parts) == 3 else None)


def tmpfs(text: str) -> tuple[str, tuple[str, ...]]:
    """Reads `/destination[:option,…]`."""
    destination, colon, options = text.partition(":")
    if ":" in options:
        raise ValueError(f"should be /destination[:options], not {text!r}")
    return absolute(destination), tuple(options.split(",")) if colon else ()


def rlimit(text: str) -> tuple[str, int, int]:
    """Reads `name,soft,hard`: the name as OCI has it, and the two numbers."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3:
        raise ValueError(f"should be name,soft,hard such as nofile,100,200, not {text!r}")
    name = parts[0].upper().removeprefix("RLIMIT_")
    if name not in LIMITS:
        raise ValueError(f"there is no limit {parts[0]!r}: {', '.join(LIMITS).lower()} are")
    soft, hard = (_limit(part, text) for part in parts[1:])
    if soft > hard:
        raise ValueError(f"the soft limit is above the hard one in {text!r}")
    return f"RLIMIT_{name}", soft, hard


def _limit(word: str, text: str) -> int:
    if word.lower() == "unlimited":
        return UNLIMITED
    if not (word.isascii() and word.isdigit()) or int(word) > UNLIMITED:
        raise ValueError(f"should be name,soft,hard with numbers or `unlimited`, not {text!r}")
    return int(word)


def capabilities(names: Iterable[str]) -> list[str]:
    """The capabilities that a list means: `all` and `none` alone stand for all and none."""
    given = list(names)
    if len(given) == 1 and given[0].lower() in ("all", "none"):
        return list(CAPABILITIES) if given[0].lower() == "all" else []
    for name in given:
        capability(name)
    return given


def capability(name: str) -> str:
    if name not in CAPABILITIES:
        if name.lower() in ("all", "none"):
            raise ValueError(f"{name!r} stands alone in a list of capabilities")
        full = f"CAP_{name.upper().removeprefix('CAP_')}"
        close = difflib.get_close_matches(full, CAPABILITIES, 1)
        hint = f"did you mean {close[0]}?" if close else "see capabilities(7)"
        raise ValueError(f"there is no capability {name!r}: {hint}")
    return name


def mode(text: str, most: int = 0o7777) -> int:
    """Reads permission bits: `0644`, `755`, `0o4755`."""
    match = _MODE.fullmatch(text)
    if not match or int(match[1], 8) > most:
        raise ValueError(f"should be an octal mode such as 0644, not {text!r}")
    return int(match[1], 8)


def size(text: str) -> int:
    """Reads bytes: `6MB` is six million, `2MiB` twice 2^20, `1.5kB` 1500; what is left of a byte does not count."""
    match = _SIZE.fullmatch(text)
    result = 0
    if match:
        fraction = match[2] or ""
        result = int(match[1] + fraction) * SIZES[match[3] or "B"] // 10 ** len(fraction)
    if not result:
        raise ValueError(f"should be a size such as 500kB, 1.5MB, 6MB (10^6) or 2MiB (2^20), not {text!r}")
    return result


def device(text: str) -> tuple[str, int, int]:
    """Reads a device node: `c 1 3` is the character device 1:3."""
    match = _DEVICE.fullmatch(text)
    if not match or int(match[2]) >= 1 << 12 or int(match[3]) >= 1 << 20:
        raise ValueError(f"should be `c MAJOR MINOR` or `b MAJOR MINOR`, not {text!r}")
    return match[1], int(match[2]), int(match[3])


def environment(text: str) -> str:
    if not _ENV.fullmatch(text):
        raise ValueError(f"should be NAME=value, not {text!r}")
    return text


def namespace(word: str, words: tuple[str, ...] = ("host", "root", "new")) -> str:
    """A namespace: one of `words`, or the path of one that there is already."""
    if word not in words and not word.startswith("/"):
        raise ValueError(f"should be {', '.join(words)} or an absolute path, not {word!r}")
    return word


def absolute(path: str) -> str:
    """An absolute path in the guest or in a container, without `..`."""
    if not path.startswith("/"):
        raise ValueError(f"should be an absolute path, not {path!r}")
    return _no_climbing(path)


def inside(path: str) -> str:
    """A path below the guest's root, with or without a leading slash: the path without it."""
    relative = _no_climbing(path).strip("/")
    if not relative or relative == ".":
        raise ValueError(f"should be a path below the root, not {path!r}")
    return "/".join(part for part in relative.split("/") if part not in ("", "."))


def _no_climbing(path: str) -> str:
    if ".." in path.split("/"):
        raise ValueError(f"should be a path without '..', not {path!r}")
    if "\0" in path or "\n" in path:
        raise ValueError(f"should be a path on one line, not {path!r}")
    return path


def identity(value: Any) -> int | str:
    """A user or group: a number, or a name."""
    text = str(value)
    if text.isascii() and text.isdigit():
        if int(text) >= 2**32 - 1:
            raise ValueError(f"should be below 2^32 - 1, not {text}")
        return int(text)
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]*", text):
        raise ValueError(f"should be a number or a name, not {text!r}")
    return text
