"""What this host, and the first build of a step, allow a check to vary."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from ccstore.build.own import own_workspace
from ccstore.build.vary import Host
from ccstore.build.workspace import Options, Workspace
from ccstore.compare.findings import Span
from ccstore.errors import CcError
from ccstore.events import Noted, Sink
from ccstore.executor import enter
from ccstore.model.derivation import BUILTIN, Derivation
from ccstore.model.graph import Build, Ref
from ccstore.model.realisation import Realisation
from ccstore.ports import Cancel
from ccstore.store.history import Run

CLOCK_RECIPE = "faketime"
CLOCK_LIBRARY = "usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
GROUP_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of control groups, version 2 and 1
MARGIN = 2.0  # seconds: a run's times are whole seconds


def host_for(
    work: Workspace, step: Build, derivation: Derivation, inputs: Mapping[str, Realisation], clock: Path | str
) -> Host:
    """`clock` is the library that gives a build another time, or why there is none."""
    first = _first_run(work, step, derivation)
    sandboxed = not step.argv[0].startswith(BUILTIN)
    needed = [Path(enter.__file__), work.store.layout.objects / "any"]
    if not sandboxed:
        needed.append(Path(os.__file__))  # modules are loaded while it works
    return Host(
        caller=os.geteuid(),
        umask=_umask(),
        processors=frozenset(os.sched_getaffinity(0)),
        memory=_free_memory(),
        store=work.store.root,
        order=enter.order_of_listing(str(work.store.layout.objects)),
        closed=_closed_to_others(needed),
        clock=clock if isinstance(clock, Path) else None,
        no_clock=clock if isinstance(clock, str) else "",
        inputs={name: each.object.nar_size for name, each in inputs.items() if name},
        first={"clock": str(first.when - first.seconds), **first.seen} if first else {},
        first_time=Span(first.when - first.seconds - MARGIN, first.when + MARGIN) if first else Span(),
        sandboxed=sandboxed,
    )


def clock_library(work: Workspace, sink: Sink, cancel: Cancel) -> Path | str:
    """Where libfaketime lies, made if need be; why not, if it cannot be had."""
    own = own_workspace(CLOCK_RECIPE, work.store, work.project.config)
    inner = Cancel()  # a failure cancels all that realizes with it, and the check goes on without
    forget = cancel.on_cancel(inner.cancel)
    ref = Ref(CLOCK_RECIPE)
    try:
        found = own.realize_refs([ref], sink=sink, options=Options(), cancel=inner)[ref]
    except CcError as error:
        if cancel.cancelled:
            raise
        sink(Noted(f"the time will not be varied: {error}", warning=True))
        return f"the recipe {CLOCK_RECIPE} cannot be made: {error.message}"
    finally:
        forget()
    return work.store.objects.path(found.object.path) / CLOCK_LIBRARY


def _first_run(work: Workspace, step: Build, derivation: Derivation) -> Run | None:
    """The run that gave what the store has."""
    runs = work.store.history.runs(step.name)
    return next((run for run in runs if run.derivation == derivation.id and run.outcome == "built"), None)


def _umask() -> int:
    now = os.umask(0o022)
    os.umask(now)
    return now


def _free_memory() -> int:
    """Bytes that can be used without swapping, as far as a container's limit lets them."""
    with Path("/proc/meminfo").open() as file:
        words = dict(line.split(":", 1) for line in file)
    free = int(words["MemAvailable"].split()[0]) * 1024
    limits = (Path("/sys/fs/cgroup", name) for name in GROUP_LIMITS)
    return min([free, *(int(text) for text in map(_text, limits) if text.isdecimal())])


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def _closed_to_others(paths: Iterable[Path]) -> str:
    """Why a user whom nothing belongs to could not run ccstore's sandbox on this store; empty if they could."""
    python = sys.executable
    if _closed_folder(Path(python).resolve()):
        python = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin") or ""
    if not python:
        return f"no other user may run {sys.executable}, and there is no other python3"
    closed = next((folder for folder in map(_closed_folder, paths) if folder), None)
    return f"{closed} is closed to other users" if closed else ""


def _closed_folder(path: Path) -> Path | None:
    """The folder on the way to `path` that others may not pass."""
    for folder in reversed(path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None
