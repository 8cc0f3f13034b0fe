"""`ccstore check`: builds steps again under other conditions, and compares with what the store has.

A round has its own conditions (vary.py) and a store of its own (rebuild.py), in which each step is built again. Where
something differs for no known reason, the round's build is repeated under the very same conditions: what differs
then, too, does so for none of them. Every rebuild is written down beside the realisation (`checks/`), at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ccstore.build.elsewhere import RANDOM
from ccstore.build.evidence import Evidence
from ccstore.build.host import clock_library, host_for
from ccstore.build.rebuild import Place, Ready, Rebuilt, another_store, random_words
from ccstore.build.traces import circumstances
from ccstore.build.vary import Variation, chosen, plan_round, variations
from ccstore.build.workspace import Options, Workspace
from ccstore.compare.findings import Circumstances, Difference, Finding
from ccstore.compare.trees import Side, compare
from ccstore.errors import CcError
from ccstore.events import Noted, Sink, ignore
from ccstore.executor.sandbox import Sandbox
from ccstore.model.graph import Build, Ref
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import Realisation
from ccstore.ports import Cancel, Executor
from ccstore.store.checks import Rebuild
from ccstore.store.session import Session
from ccstore.store.store import Store

NO_CONDITION = "random numbers or a race: two builds under the same conditions differ, too"
SOME_CONDITION = "one of the conditions: two builds under the same ones agree (--vary NAMES finds it)"
FOLLOWS = "it probably follows from the others in this file"

Where = tuple[str, tuple[str, ...]]  # a path, and the way within the file


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """`left_out` says why a condition is not to be varied, by name (`vary.chosen`).

    `recursive`: every step behind a target, too. Of outputs that differ, both are copied to `keep`, and diffoscope
    reports to `html`. What builds again is `executor` (None: the sandbox), which for `remote` may be at that URL.
    """

    rounds: int = 1
    left_out: Mapping[str, str] = field(default_factory=lambda: chosen(strict=False))
    recursive: bool = False
    keep: Path | None = None
    html: Path | None = None
    executor: str | None = None
    remote: str | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """One output of one round: what came out, and how it differs."""

    nar_hash: Sha256
    same: bool
    differences: tuple[Difference, ...] = ()

    @property
    def explained(self) -> bool:
        return all(each.explained for each in self.differences)


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a step; `outputs` by name."""

    number: int
    seconds: float
    variations: tuple[Variation, ...]
    outputs: Mapping[str, Compared]

    @property
    def same(self) -> bool:
        return all(each.same for each in self.outputs.values())


@dataclass(frozen=True, slots=True)
class StepCheck:
    """A step, what the store has of it by output, and the rounds."""

    step: str
    derivation: str
    outputs: Mapping[str, Realisation]
    rounds: tuple[Round, ...]

    @property
    def same(self) -> bool:
        return all(each.same for each in self.rounds)


def check(
    work: Workspace,
    targets: list[str],
    options: CheckOptions | None = None,
    *,
    sink: Sink = ignore,
    cancel: Cancel | None = None,
) -> list[StepCheck]:
    """Checks the step of each target, which is realised first if it is not.

    Raises `usage` for a target that nothing builds (a download), whatever realising raises, `build-failed` and the
    like when a rebuild does not even succeed, and what an executor raises (`no-userns`). A difference raises nothing.
    """
    options, cancel = options or CheckOptions(), cancel or Cancel()
    evidence = Evidence.prepare(options.keep, options.html, sink)
    refs = work.find(targets)
    steps = _steps(work, refs, options.recursive)
    missing = [target for target, ref in zip(targets, refs, strict=True) if work.realised(ref) is None]
    if missing:
        work.realize(missing, sink=sink, options=Options(assist=False), cancel=cancel)
    clock = options.left_out.get("clock") or clock_library(work, sink, cancel)
    with work.store.session() as session:
        checker = _Checker(work, session, options, evidence, clock, sink, cancel)
        return checker.run([checker.ready(step) for step in steps])


def _steps(work: Workspace, refs: list[Ref], recursive: bool) -> list[Build]:
    if recursive:
        return [step for step in work.graph.closure(*refs) if isinstance(step, Build)]
    found = {ref.step: work.graph.steps[ref.step] for ref in refs}
    for name, step in found.items():
        if not isinstance(step, Build):
            raise CcError(
                "usage",
                f"{name} is not built: its hash is known beforehand, and checked whenever it is fetched",
                hint="check a target that is built",
            )
    return [step for step in found.values() if isinstance(step, Build)]


@dataclass(frozen=True, slots=True)
class _Checker:
    work: Workspace
    session: Session
    options: CheckOptions
    evidence: Evidence
    clock: Path | str
    sink: Sink
    cancel: Cancel

    def ready(self, step: Build) -> Ready:
        """Makes sure that the step's inputs and outputs are in the store, and stay there."""
        outputs = [Ref(step.name, output) for output in step.outputs]
        references = list(step.references())
        for known in (self.work.realised(ref) for ref in (*references, *outputs)):
            if known:
                self.session.protect(known.object.path)
        wanted = [*references, *outputs]
        options = Options(assist=False)  # as configured it might be
        found = self.work.realize_refs(wanted, sink=self.sink, options=options, cancel=self.cancel)
        for each in found.values():
            self.session.protect(each.object.path)
        derivation = step.resolve({ref: found[ref].object.nar_hash for ref in references})
        inputs = {name: found[ref] for name, ref in step.inputs.items()}
        if step.root:
            inputs[""] = found[step.root]
        return Ready(step, derivation, inputs, {ref.output: found[ref] for ref in outputs})

    def _executor(self) -> Executor | None:
        """What builds again; None for the sandbox, which can do so under other conditions."""
        name = self.options.executor
        if name is None or name == Sandbox.name:
            return None
        return self.work.executor(name, self.sink, self.options.remote, fresh=True)

    def run(self, steps: list[Ready]) -> list[StepCheck]:
        rounds: list[list[Round]] = [[] for _ in steps]
        executor = self._executor()
        for number in range(1, self.options.rounds + 1):
            with another_store(self.session, number) as (store, inner):
                place = Place(
                    self.work, store, inner, self.sink, self.cancel, self.evidence.keep_log, executor
                )
                for ready, done in zip(steps, rounds, strict=True):
                    done.append(self._round(number, ready, place))
                    self._record(done[-1], ready)
        return [
            StepCheck(ready.step.name, ready.derivation.id, ready.outputs, tuple(done))
            for ready, done in zip(steps, rounds, strict=True)
        ]

    def _round(self, number: int, ready: Ready, place: Place) -> Round:
        host = host_for(self.work, ready.step, ready.derivation, ready.inputs, self.clock)
        plan = plan_round(number, self.options.left_out, host, random_words(RANDOM))
        label = f"{ready.step.name} (round {number})"
        second = place.rebuild(ready, plan, label)
        known = circumstances(plan, host, place.store.root, second.seen, second.seconds)
        outputs = {output: self._compared(ready, second, output, place, known) for output in ready.outputs}
        if not all(each.explained for each in outputs.values()):
            self.sink(Noted(f"{label} differs for no known reason: repeated under the same conditions"))
            third = place.rebuild(ready, plan, f"{ready.step.name} (round {number}, repeated)", second)
            outputs = {
                output: each
                if each.explained
                else _attributed(each, _repeated(place.store, second, third, output))
                for output, each in outputs.items()
            }
        varied = variations(plan, host, place.store.root, second.seen)
        return Round(number, second.seconds, varied, outputs)

    def _compared(
        self, ready: Ready, second: Rebuilt, output: str, place: Place, known: Circumstances
    ) -> Compared:
        first, again = ready.outputs[output].object, second.outputs[output].object
        if again.nar_hash == first.nar_hash:
            return Compared(again.nar_hash, True)
        name = ready.step.name if output == "out" else f"{ready.step.name}^{output}"
        self.evidence.keep(
            name, self.work.store.objects.path(first.path), place.store.objects.path(again.path)
        )
        differences = compare(_side(self.work.store, first), _side(place.store, again), known)
        return Compared(again.nar_hash, False, tuple(differences))

    def _record(self, done: Round, ready: Ready) -> None:
        varied = tuple(each.name for each in done.variations if each.varied)
        for output, each in done.outputs.items():
            rebuild = Rebuild(int(time.time()), each.nar_hash, varied)
            self.work.store.checks.record(ready.outputs[output].id, [rebuild])


def _side(store: Store, info: ObjectInfo) -> Side:
    tree = store.objects.tree(info.path)
    return Side.of(tree.path, tree.entries())


def _repeated(store: Store, second: Rebuilt, third: Rebuilt, output: str) -> set[Where]:
    """The places where two builds under the same conditions differ."""
    sides = [_side(store, each.outputs[output].object) for each in (second, third)]
    found = compare(sides[0], sides[1], Circumstances())
    return {(each.path, finding.where) for each in found for finding in _findings(each)}


def _findings(difference: Difference) -> tuple[Finding, ...]:
    """At least one."""
    return difference.findings or (Finding((), "", ""),)


def _attributed(compared: Compared, repeated: set[Where]) -> Compared:
    """With a cause for what has none yet: a condition, or none of them."""

    def cause(difference: Difference, finding: Finding) -> tuple[str, ...]:
        if finding.causes:
            return finding.causes
        if (difference.path, finding.where) in repeated:
            return (NO_CONDITION,)
        return (FOLLOWS if any(each.causes for each in difference.findings) else SOME_CONDITION,)

    def attributed(each: Difference) -> Difference:
        findings = (replace(finding, causes=cause(each, finding)) for finding in _findings(each))
        return replace(each, findings=tuple(findings))

    return replace(compared, differences=tuple(map(attributed, compared.differences)))
