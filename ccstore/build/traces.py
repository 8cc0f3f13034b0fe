"""What the conditions of a build leave in what it makes: the words that a comparison looks for (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ccstore.build.vary import LABELS, Host, Plan
from ccstore.compare.causes import TIME
from ccstore.compare.findings import Circumstances, Span, Trace
from ccstore.ports import Conditions
from ccstore.store.layout import STAGING_PREFIX

STAGED = f"/objects/{STAGING_PREFIX}"  # in the path of a build's folder, wherever its file system is mounted


def circumstances(
    plan: Plan, host: Host, store: Path, seen: Mapping[str, str], seconds: float
) -> Circumstances:
    """What the comparison is to look for; the second build took so many seconds."""
    usual, now = Conditions(), plan.conditions
    old_jobs = host.first.get("jobs", "")
    only = plan.surroundings.environment
    traces = [
        Trace(LABELS["hostname"], (usual.hostname, usual.domain), (now.hostname, now.domain)),
        Trace(LABELS["user"], _ids(usual), _ids(now)),
        Trace(LABELS["path"], (usual.build,), (now.build,)),
        Trace(LABELS["umask"], _modes(usual.umask), _modes(now.umask)),
        Trace(LABELS["jobs"], (old_jobs, f"-j{old_jobs}"), (str(plan.jobs), f"-j{plan.jobs}")),
        Trace(LABELS["store"], only_first=(str(host.store), STAGED), only_second=(str(store), STAGED)),
        Trace(LABELS["environment"], only_second=tuple(each for each in only.values() if len(each) > 5)),
        Trace(LABELS["kernel"], (host.first.get("kernel", ""),), (seen.get("kernel", ""),)),
    ]
    if now.clock:
        traces.append(Trace(TIME, only_second=(f"FAKETIME=+{now.clock.ahead}",)))
    began = float(seen["clock"]) if "clock" in seen else 0.0
    second_time = Span(began, began + seconds) if began else Span()
    return Circumstances(tuple(map(_told, traces)), host.first_time, second_time)


def _told(trace: Trace) -> Trace:
    """The trace without pairs that are the same, or not known."""
    pairs = [
        (old, new) for old, new in zip(trace.first, trace.second, strict=True) if old and new and old != new
    ]
    return Trace(
        trace.cause,
        tuple(old for old, _ in pairs),
        tuple(new for _, new in pairs),
        trace.only_first,
        trace.only_second,
    )


def _ids(conditions: Conditions) -> tuple[str, ...]:
    """How a user and a group show in files: by name and number, in tar octal, in cpio hexadecimal."""
    numbers = (conditions.uid, conditions.gid)
    return (
        conditions.user,
        *(form.format(each) for each in numbers for form in ("{}", "{:07o}", "{:08x}", "{:08X}", "{:06o}")),
    )


def _modes(umask: int) -> tuple[str, ...]:
    """The umask, and what new files and folders get under it."""
    modes = (0o666 & ~umask, 0o777 & ~umask)
    shown = (
        f"{umask:04o}",
        f"{umask:03o}",
        *(f"{each:{form}}" for each in modes for form in ("o", "04o", "07o")),
    )
    return (*shown, *(_letters(each) for each in modes))


def _letters(mode: int) -> str:
    """As `ls -l` shows it."""
    return "".join(letter if mode >> (8 - at) & 1 else "-" for at, letter in enumerate("rwxrwxrwx"))
