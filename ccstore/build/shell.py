"""Entering the sandbox of a step by hand: as its build begins, or as a failed build left it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ccstore.build.failure import AGAIN
from ccstore.build.kept import Kept, kept_builds
from ccstore.build.request import request_of
from ccstore.build.workspace import Options, Workspace
from ccstore.errors import CcError
from ccstore.events import Sink
from ccstore.executor.sandbox import Sandbox
from ccstore.model.derivation import BUILTIN, Derivation
from ccstore.model.graph import Build, Fetch, Ref
from ccstore.model.storepath import StorePath
from ccstore.ports import BuildRequest, Tree
from ccstore.store.session import Session
from ccstore.store.store import Store

SHELLS = ("bin/bash", "bin/sh")


@dataclass(frozen=True, slots=True)
class Entry:
    """What to run: `argv`, or a shell; with `terminal` in a terminal of its own.

    `announce` is told, before it begins, which build it is (None: one that begins) and the command of the build.
    """

    argv: tuple[str, ...] = ()
    terminal: bool = False
    announce: Callable[[Kept | None, Derivation], None] = lambda kept, derivation: None


def last_failure(work: Workspace, target: str) -> Kept | None:
    """The failed build of the step that was kept, unless a later one succeeded."""
    step = _step(work, target)
    kept = kept_builds(work.store, step.name)
    last = work.store.history.last(step.name)
    return kept[0] if kept and (last is None or last.when < kept[0].when) else None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A build whose inputs, the toolchain under "", are here."""

    step: str
    derivation: Derivation
    inputs: Mapping[str, StorePath]


def prepare(work: Workspace, target: str, *, sink: Sink, options: Options) -> Prepared:
    """Makes what the build of `target` needs. Raises `usage` for a step that has no sandbox, and as `realize`."""
    step = _step(work, target)
    made = work.realize_refs(list(step.references()), sink=sink, options=options)
    derivation = step.resolve({ref: each.object.nar_hash for ref, each in made.items()})
    inputs = {name: made[ref].object.path for name, ref in step.inputs.items()}
    assert step.root is not None
    inputs[""] = made[step.root].object.path
    return Prepared(step.name, derivation, inputs)


def enter(store: Store, build: Prepared, entry: Entry, *, cores: int) -> int:
    """Runs `entry` in the sandbox of a build as it begins; its exit status. What it leaves there is removed."""
    with store.session() as session, session.staging(build.derivation.name) as staging:
        out, scratch = staging / "out", staging / "scratch"
        out.mkdir()
        scratch.mkdir()
        trees = _trees(store, session, build.inputs)
        request = request_of(build.step, build.derivation, trees, out, scratch, cores=cores)
        return _run(request, entry, None, build.derivation)


def enter_kept(store: Store, kept: Kept, entry: Entry, *, cores: int) -> int:
    """Runs `entry` where a failed build ended; what it changes there stays. Its exit status.

    Raises `not-found` if an input was collected meanwhile, and `store-busy` if somebody else is in there.
    """
    with store.session() as session, _alone(kept):
        trees = _trees(store, session, kept.inputs)
        request = request_of(kept.step, kept.derivation, trees, kept.folder / "out", kept.folder, cores=cores)
        return _run(request, entry, kept, kept.derivation)


def _step(work: Workspace, target: str) -> Build:
    step = work.graph.steps[work.graph.find(target).step]
    if isinstance(step, Build) and not step.argv[0].startswith(BUILTIN):
        return step
    what = "a download" if isinstance(step, Fetch) else "made by ccstore itself"
    user = next((name for name, each in work.graph.steps.items() if _uses(each, step.name)), None)
    raise CcError(
        "usage",
        f"{target} is {what}, and has no sandbox to enter",
        hint=f"`ccstore shell {user}` enters a sandbox that has it" if user else None,
    )


def _uses(step: object, name: str) -> bool:
    inside = isinstance(step, Build) and not step.argv[0].startswith(BUILTIN)
    return isinstance(step, Build) and inside and Ref(name) in step.references()


def _trees(store: Store, session: Session, inputs: Mapping[str, StorePath]) -> dict[str, Tree]:
    for path in inputs.values():
        session.protect(path)
    gone = [path for path in inputs.values() if not store.objects.has(path)]
    if gone:
        hint = "`ccstore realize --keep-failed` builds it anew, and keeps it if it fails again"
        raise CcError("not-found", f"the input {gone[0].base} was collected", hint=hint)
    return {name: store.objects.tree(path) for name, path in inputs.items()}


@contextmanager
def _alone(kept: Kept) -> Iterator[None]:
    """Two sandboxes on one overlay would spoil it."""
    descriptor = os.open(kept.folder / AGAIN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        message = f"the failed build of {kept.step} is entered by another process"
        raise CcError("store-busy", message, where=str(kept.folder), hint="wait until it has left") from error
    finally:
        os.close(descriptor)


def _run(request: BuildRequest, entry: Entry, kept: Kept | None, derivation: Derivation) -> int:
    if not entry.argv:
        entry.announce(kept, derivation)
    env = dict(request.env)
    if entry.terminal:
        env |= {"TERM": os.environ.get("TERM", "dumb"), "PS1": f"[{request.label}] \\w\\$ "}
    argv = entry.argv or _shell(request.root.path, terminal=entry.terminal)
    return Sandbox().interact(replace(request, argv=argv, env=env), terminal=entry.terminal)


def _shell(root: Path, *, terminal: bool) -> tuple[str, ...]:
    name = next((name for name in SHELLS if (root / name).exists()), SHELLS[-1])
    options = ("--norc",) if name.endswith("bash") else ()  # what a build left at home is no one's setting
    return (f"/{name}", *options, *(("-i",) if terminal else ()))
