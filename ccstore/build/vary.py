"""What a check varies, and what of it really was otherwise (pure).

Every condition has a name. Those in OUTSIDE surround the sandbox, and no build should be able to notice them; those
in INSIDE are fixed by the sandbox for every build, and only a strict check varies them. A round has its own values,
so two rounds differ from one another too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ccstore.compare.causes import TIME
from ccstore.compare.findings import Span
from ccstore.ports import Clock, Conditions

OUTSIDE = ("store", "jobs", "processors", "load", "environment", "caller", "caller-umask")
INSIDE = ("hostname", "user", "path", "umask", "clock", "order", "addresses")
NAMES = (*OUTSIDE, *INSIDE)
LABELS = {
    "store": "store and build folder on the host",
    "jobs": "number of jobs",
    "processors": "number of processors",
    "load": "CPU load",
    "environment": "environment of the caller",
    "caller": "user of the host",
    "caller-umask": "umask of the caller",
    "hostname": "host name",
    "user": "user and group",
    "path": "build path",
    "umask": "umask",
    "clock": TIME,
    "order": "order of folders' entries",
    "addresses": "addresses of programs",
    "kernel": "kernel release",
}
DAY = 86400
OTHER_USER = 65534  # an ordinary user of the host, whom nothing belongs to
FEW_PROCESSORS = 4  # with fewer than that, one less would make a check much longer
LEAST_MEMORY = 2 << 30  # bytes that must be free for a build's folder to lie in memory
MOST_COPIED = 8  # of the free memory one part in so many is for copies of inputs
STRICT_ONLY = "the sandbox fixes it; --strict varies it"
SANDBOX_ONLY = "only the sandbox can vary it"
ANYWHERE = frozenset({"store", "jobs"})
LEFT_OUT = "it was left out"
NO_SANDBOX = "ccstore makes this itself, without a sandbox"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is otherwise around the sandbox: for the process that runs it.

    `environment` is all that it has besides what its Python needs; `load` is how many processes keep the CPUs busy
    beside it. `uid` and `processors` stay as they are if None.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    umask: int = 0o022
    uid: int | None = None
    load: int = 0
    processors: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """What this host allows, and what the first build is known to have been.

    `closed` says why another user could not build here, `no_clock` why there is no library for another time; `inputs`
    are sizes in bytes by name; `first` is what the first build saw, `order` how folders on the disk are listed.
    `sandboxed`: the build is one for the sandbox, not ccstore's own.
    """

    caller: int
    umask: int
    processors: frozenset[int]
    memory: int
    store: Path
    order: str
    closed: str = ""
    clock: Path | None = None
    no_clock: str = ""
    inputs: Mapping[str, int] = field(default_factory=dict)
    first: Mapping[str, str] = field(default_factory=dict)
    first_time: Span = field(default_factory=Span)
    sandboxed: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """One round. `excluded` says by name why a condition is not varied; `on_disk`: inputs too large for memory."""

    conditions: Conditions
    surroundings: Surroundings
    jobs: int
    excluded: Mapping[str, str]
    on_disk: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Variation:
    """One condition: what it was for the first build and for this one. `why` says why it was not otherwise."""

    name: str
    first: str
    second: str
    why: str = ""

    @property
    def label(self) -> str:
        return LABELS[self.name]

    @property
    def varied(self) -> bool:
        return not self.why


def chosen(
    strict: bool,
    only: frozenset[str] = frozenset(),
    without: frozenset[str] = frozenset(),
    *,
    in_sandbox: bool = True,
) -> dict[str, str]:
    """Why each condition that a user does not want varied is not, by name; of another executor few can be."""
    elsewhere = {} if in_sandbox else dict.fromkeys(set(NAMES) - ANYWHERE, SANDBOX_ONLY)
    if only:
        return dict.fromkeys(set(NAMES) - only, LEFT_OUT) | elsewhere
    inside = {} if strict else dict.fromkeys(INSIDE, STRICT_ONLY)
    return inside | dict.fromkeys(without, LEFT_OUT) | elsewhere


def plan_round(number: int, left_out: Mapping[str, str], host: Host, words: Mapping[str, str]) -> Plan:
    """The conditions of round `number` (from 1); `words` are random variables for the environment."""
    excluded = {**_impossible(host), **left_out}
    real = frozenset(NAMES) - set(excluded)
    return Plan(
        conditions=_conditions(number, real, host),
        surroundings=_surroundings(number, real, host, words),
        jobs=_jobs(number, "jobs" in real, host),
        excluded=excluded,
        on_disk=tuple(sorted(set(host.inputs) - _copied(host))),
    )


def _impossible(host: Host) -> dict[str, str]:
    found = {} if host.sandboxed else dict.fromkeys(("jobs", *INSIDE), NO_SANDBOX)
    if host.caller != 0:
        found["caller"] = "only root can become another user"
    elif host.closed:
        found["caller"] = host.closed
    if len(host.processors) < FEW_PROCESSORS:
        found["processors"] = f"with {len(host.processors)}, one less would take too long"
    if host.clock is None:
        found["clock"] = host.no_clock
    if host.memory < LEAST_MEMORY:
        free = f"only {host.memory >> 20} MiB of memory are free"
        found["order"] = f"{free}, and a build's folder in memory wants {LEAST_MEMORY >> 20}"
    return found


def _conditions(number: int, real: frozenset[str], host: Host) -> Conditions:
    usual = Conditions()
    user = f"rebuilder{number}" if "user" in real else usual.user
    return Conditions(
        hostname=f"rebuild-{number}" if "hostname" in real else usual.hostname,
        domain=f"round{number}.example" if "hostname" in real else usual.domain,
        user=user,
        uid=4241 + number if "user" in real else usual.uid,
        gid=5241 + number if "user" in real else usual.gid,
        build=f"/home/round{number}/{'a-longer-path/' * number}build" if "path" in real else usual.build,
        umask=(0o027, 0o002, 0o077)[number % 3 - 1] if "umask" in real else usual.umask,
        random_addresses="addresses" in real,
        in_memory=tuple(sorted(_copied(host))) if "order" in real else None,
        clock=Clock(number * 398 * DAY + 13 * 3600 + 17, host.clock)
        if "clock" in real and host.clock
        else None,
        probe=True,
    )


def _copied(host: Host) -> set[str]:
    """Inputs that are small enough, the smallest first, to be copied into memory."""
    room, found = host.memory // MOST_COPIED, set()
    for name, size in sorted(host.inputs.items(), key=lambda each: each[1]):
        room -= size
        if room < 0:
            break
        found.add(name)
    return found


def _surroundings(number: int, real: frozenset[str], host: Host, words: Mapping[str, str]) -> Surroundings:
    environment = {
        "LANG": ("tr_TR.UTF-8", "fr_FR.ISO-8859-1")[number % 2 - 1],
        "LC_ALL": ("et_EE.UTF-8", "POSIX")[number % 2 - 1],
        "TZ": f"CHK{number % 12 + 1:+}:{number % 60:02}",
        "HOME": f"/nonexistent/caller{number}",
        "USER": f"caller{number}",
        "LOGNAME": f"caller{number}",
        **words,
    }
    return Surroundings(
        environment=environment if "environment" in real else {},
        umask=(0o077, 0o000, 0o027)[number % 3 - 1] if "caller-umask" in real else host.umask,
        uid=OTHER_USER if "caller" in real else None,
        load=1 if "load" in real else 0,
        processors=host.processors - {max(host.processors)} if "processors" in real else None,
    )


def _jobs(number: int, varied: bool, host: Host) -> int:
    """One more in each round: fewer would take longer."""
    first = host.first.get("jobs", "")
    jobs = int(first) if first.isdecimal() else len(host.processors)
    return jobs + number if varied else jobs


def variations(plan: Plan, host: Host, store: Path, seen: Mapping[str, str]) -> tuple[Variation, ...]:
    """What was otherwise, as far as the build `seen` what it was; its store was at `store`."""
    return tuple(_variation(name, plan, host, store, seen) for name in LABELS)


def _variation(name: str, plan: Plan, host: Host, store: Path, seen: Mapping[str, str]) -> Variation:
    first, second = _first(name, host), _second(name, store, seen)
    if first and second and first != second:
        rest = f"; inputs on the disk: {', '.join(plan.on_disk)}" if name == "order" and plan.on_disk else ""
        return Variation(name, first, second + rest)
    return Variation(name, first, second, _why_not(name, plan, first, second))


def _why_not(name: str, plan: Plan, first: str, second: str) -> str:
    if name in plan.excluded:
        return plan.excluded[name]
    if not second:
        return "it could not be measured"
    if not first:
        return "what it was for the first build is not known"
    return "it is this machine's: check on another one" if name == "kernel" else "it came out the same"


def _first(name: str, host: Host) -> str:
    usual = Conditions()
    fixed = {
        "store": str(host.store),
        "load": "as it was",
        "environment": "the caller's",
        "caller": str(host.caller),
        "caller-umask": f"{host.umask:04o}",
        "order": host.order,
        "hostname": usual.hostname,
        "user": f"{usual.uid}:{usual.gid}",
        "path": usual.build,
        "umask": f"{usual.umask:04o}",
        "addresses": "fixed",
    }
    value = host.first.get(name) or fixed.get(name, "")
    return date(value) if name == "clock" else value


def _second(name: str, store: Path, seen: Mapping[str, str]) -> str:
    value = str(store) if name == "store" else seen.get(name, "")
    return date(value) if name == "clock" else value


def date(moment: str) -> str:
    """Unix time as people read it."""
    if not moment:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(float(moment)))
