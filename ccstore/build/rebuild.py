"""Building a step again in another place: a short-lived store inside a staging folder of the real one.

The step's inputs are borrowed from the real store, and the step is built by the same code that builds everything
(runner.py), in a process of other surroundings (elsewhere.py). Nothing is fetched or substituted, and nothing is
registered in the real store. However it ends, the folder goes with it; after a kill, `ccstore gc` removes it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ccstore.build.elsewhere import Elsewhere
from ccstore.build.knowledge import Knowledge
from ccstore.build.resolve import Outputs
from ccstore.build.runner import BUILTINS, Runner
from ccstore.build.vary import Plan
from ccstore.build.workspace import Workspace
from ccstore.errors import CcError
from ccstore.events import Event, Foreseen, Noted, Sink
from ccstore.model.derivation import Derivation
from ccstore.model.graph import Build
from ccstore.model.realisation import Realisation
from ccstore.ports import BuildRequest, BuildResult, Cancel, Executor
from ccstore.store.borrow import borrow
from ccstore.store.session import Session
from ccstore.store.store import Store

SLOWER = 4  # times that a build may take beside another load, before its time-out
BUILD_FAILED = 3  # the exit status of errors that are the build's own


@dataclass(frozen=True, slots=True)
class Ready:
    """A step that the real store has: its derivation, its inputs by name (the root under "") and its outputs."""

    step: Build
    derivation: Derivation
    inputs: Mapping[str, Realisation]
    outputs: Outputs


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came out the second time, what the build saw, how long it took."""

    outputs: Outputs
    seen: Mapping[str, str]
    seconds: float


class Afresh:
    """Another executor than the sandbox: its surroundings are its own. `seen` is what is known of the last build."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.name = executor.name
        self.seen: Mapping[str, str] = {}

    def build(self, request: BuildRequest, log: Callable[[bytes], None], cancel: Cancel) -> BuildResult:
        result = self._executor.build(request, log, cancel)
        self.seen = result.seen
        return result


@dataclass(frozen=True, slots=True)
class Place:
    """Where steps are built again: by `executor`, None for the sandbox in other surroundings. `failed` is told of a
    build that failed; it says where its log was kept, if so."""

    work: Workspace
    store: Store
    session: Session
    sink: Sink
    cancel: Cancel
    failed: Callable[[Store, Ready], Path | None]
    executor: Executor | None = None

    def rebuild(self, ready: Ready, plan: Plan, label: str, again: Rebuilt | None = None) -> Rebuilt:
        """Builds under the conditions of `plan`; with `again`, what it gave here before is forgotten.

        Raises `build-failed` and the like, and what an executor raises.
        """
        uid = plan.surroundings.uid
        root = [each.object.path for name, each in ready.inputs.items() if not name]
        inputs = [each.object.path for name, each in ready.inputs.items() if name]
        borrow(self.work.store, self.store, inputs, uid)
        borrow(self.work.store, self.store, root)
        if last := self.work.store.history.last(ready.step.name):
            self.store.history.record(last)  # so that the progress of this one can be told
        executor: Elsewhere | Afresh
        if self.executor:
            executor, builtins = Afresh(self.executor), BUILTINS
        else:
            executor = Elsewhere(plan.conditions, plan.surroundings)
            builtins = {"debian-tree": executor.debian_tree}
        runner = Runner(
            store=self.store,
            session=self.session,
            executor=executor,
            mirrors=self.work.mirrors,
            sink=_called(self.sink, ready.step.name, label),
            cancel=self.cancel,
            cores=plan.jobs,
            knowledge=Knowledge(self.store, ()),
            damaged={each.object.path for each in again.outputs.values()} if again else set(),
            builtins=builtins,
        )
        began = time.monotonic()
        outputs = self._build(runner, ready, label)
        return Rebuilt(outputs, executor.seen, time.monotonic() - began)

    def _build(self, runner: Runner, ready: Ready, label: str) -> Outputs:
        slower = 1 if self.executor else SLOWER
        timeout = ready.step.timeout * slower if ready.step.timeout else None
        try:
            return runner.build(replace(ready.step, timeout=timeout), ready.derivation, ready.inputs)
        except CcError as error:
            if error.exit_status != BUILD_FAILED:
                raise
            kept = self.failed(self.store, ready)
            hint = f"its log was kept at {kept}" if kept else "`--keep DIR` keeps its log"
            message = f"{label} failed, and the first build did not: {error.message}"
            raise CcError(error.code, message, where=error.where, hint=hint, details=error.details) from error


@contextmanager
def another_store(session: Session, number: int) -> Iterator[tuple[Store, Session]]:
    """A new store at another place for each `number`, that another user of this host can pass through."""
    with session.staging("check") as staging:
        root = staging / ("elsewhere-" * number) / "store"
        root.mkdir(parents=True)
        with Store.open(root) as store, store.session() as inner:
            for folder in (store.layout.objects, root, *root.parents):
                folder.chmod(0o711)
                if folder == staging:
                    break
            yield store, inner


def _called(sink: Sink, step: str, label: str) -> Sink:
    """A sink for which `step` is called `label`, and which is not told that a rebuild differs from another one."""

    def renamed(event: Event) -> None:
        if not isinstance(event, Noted | Foreseen) and event.target == step:
            sink(replace(event, target=label))

    return renamed


def random_words(prefix: str, count: int = 3) -> dict[str, str]:
    """Variables with random names and values."""
    return {f"{prefix}{os.urandom(4).hex().upper()}": os.urandom(12).hex() for _ in range(count)}
