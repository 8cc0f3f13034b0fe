"""Making targets exist: the only orchestrator.

Two questions are asked of a step, and each is answered once in a run:

*know*  what did it give? Its derivation follows from what is known of its inputs, and a realisation, the store's own
        or a cache's, answers without any object.
*have*  is its object here? If not (collected, or never made) a cache may have it; else the step is made, and for that
        its inputs must be had.

Asking `have` of the targets therefore touches only what is needed. Coroutines ask; threads work: builds within
`jobs`, downloads beside them, and of those that wait the one with the longest way to the end goes first. The first
failure ends the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ccstore.build.estimate import lengths
from ccstore.build.resolve import Outputs, local_realisation
from ccstore.build.runner import Runner
from ccstore.build.slots import Movement, Slots
from ccstore.build.substitute import not_there
from ccstore.errors import CcError
from ccstore.model.derivation import Derivation, FixedOutput
from ccstore.model.graph import Build, Fetch, Graph, Local, Ref, Step
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import Realisation
from ccstore.model.storepath import StorePath

DOWNLOADS = 6  # at once; more does not help against one mirror
QUESTIONS = 8  # to caches, at once
T = TypeVar("T")


def realize(
    graph: Graph,
    targets: list[Ref],
    runner: Runner,
    local_content: Callable[[Local], ObjectInfo],
    jobs: int,
    expected: Callable[[Step], float],
) -> dict[Ref, Realisation]:
    """Makes `targets` exist and says what they are. At most `jobs` builds run at once; those with the longest way to
    the end go first, where `expected` is how many seconds a step takes.

    Raises the first CcError of whatever failed; Ctrl-C ends all builds and raises KeyboardInterrupt.
    """
    with ThreadPoolExecutor(jobs + DOWNLOADS + QUESTIONS, thread_name_prefix="realize") as threads:
        return asyncio.run(_Realizer(graph, runner, local_content, jobs, expected, threads).run(targets))


class _Realizer:
    def __init__(
        self,
        graph: Graph,
        runner: Runner,
        local_content: Callable[[Local], ObjectInfo],
        jobs: int,
        expected: Callable[[Step], float],
        threads: ThreadPoolExecutor,
    ) -> None:
        self._graph = graph
        self._runner = runner
        self._local_content = local_content
        self._threads = threads
        self._expected = expected
        self._lengths: Mapping[str, float] = {}
        self._movement = Movement()
        self._builds = Slots(jobs, self._movement)
        self._downloads = Slots(DOWNLOADS, self._movement)
        self._tasks: dict[tuple[str, str], asyncio.Task[Outputs]] = {}
        self._objects: dict[StorePath, asyncio.Task[bool]] = {}

    async def run(self, targets: list[Ref]) -> dict[Ref, Realisation]:
        self._steps = self._graph.closure(*targets)  # a circle would wait for itself
        try:
            found = await asyncio.gather(*(self._have(ref) for ref in targets))
            return dict(zip(targets, found, strict=True))
        except BaseException:
            self._runner.cancel.cancel()
            raise
        finally:
            tasks = [*self._tasks.values(), *self._objects.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _length(self, step: Step) -> float:
        """The seconds from the beginning of a step to the end of the last one that waits for it, as far as known."""
        if not self._lengths:
            names = {step.name for step in self._steps}
            needs = {
                step.name: {ref.step for ref in self._graph.references(step)} & names for step in self._steps
            }
            self._lengths = lengths(needs, {step.name: self._expected(step) for step in self._steps})
        return self._lengths[step.name]

    def _once(
        self, question: str, step: Step, answer: Callable[[Step], Coroutine[None, None, Outputs]]
    ) -> asyncio.Task[Outputs]:
        key = (question, step.name)
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(answer(step))
        return self._tasks[key]

    async def _have(self, ref: Ref) -> Realisation:
        step = self._graph.steps[ref.step]
        outputs = await self._know(step)
        wanted = {ref.output: outputs[ref.output]}
        # in a thread: it may wait for a collection, and Ctrl-C must not wait with it
        with self._movement.moving():
            here = await self._thread(lambda: self._here(step, wanted))
        if not here and not await self._substituted(step, outputs[ref.output]):
            outputs = await self._made(step)
        return outputs[ref.output]

    async def _substituted(self, step: Step, wanted: Realisation) -> bool:
        """Whether a cache gave the object; each is asked for once in a run."""
        if isinstance(step, Local) or self._runner.knowledge.sources is None:
            return False
        path = wanted.object.path
        if path not in self._objects:
            self._objects[path] = asyncio.create_task(self._substitute(step, wanted))
        return await self._objects[path]

    async def _substitute(self, step: Step, wanted: Realisation) -> bool:
        async with self._downloads.place(self._length(step)):
            return await self._thread(lambda: self._runner.substitute(step.name, wanted.object))

    def _here(self, step: Step, wanted: Outputs) -> bool:
        # what a local file is, is known without a record; `gc` follows records, and a crash can leave one unwritten
        recorded = self._runner.store.realisations.get
        if isinstance(step, Local) and not all(recorded(each.id) for each in wanted.values()):
            return False
        return self._runner.present(wanted)

    def _know(self, step: Step) -> asyncio.Task[Outputs]:
        return self._once("know", step, self._find_out)

    def _made(self, step: Step) -> asyncio.Task[Outputs]:
        return self._once("made", step, self._make)

    async def _find_out(self, step: Step) -> Outputs:
        if isinstance(step, Local):
            _, local = await self._thread(lambda: self._local(step))
            return {"out": local}
        derivation = step.fixed if isinstance(step, Fetch) else await self._derivation(step)
        known = self._runner.knowledge.outputs(derivation)
        if not known and self._runner.knowledge.sources is not None:
            known = await self._thread(lambda: self._runner.knowledge.ask(derivation, step.name))
        return known or await self._made(step)

    def _local(self, step: Local) -> tuple[FixedOutput, Realisation]:
        return local_realisation(step, self._local_content(step))

    async def _derivation(self, step: Build) -> Derivation:
        known = await self._each_input(step, lambda ref: self._know(self._graph.steps[ref.step]))
        content = {ref: outputs[ref.output].object.nar_hash for ref, outputs in known.items()}
        return step.resolve(content)

    async def _each_input(self, step: Build, ask: Callable[[Ref], Awaitable[T]]) -> dict[Ref, T]:
        refs = list(dict.fromkeys(step.references()))
        return dict(zip(refs, await asyncio.gather(*map(ask, refs)), strict=True))

    async def _make(self, step: Step) -> Outputs:
        if isinstance(step, Local):
            fixed, _ = await self._thread(lambda: self._local(step))
            return await self._thread(lambda: self._runner.copy(step, fixed))
        if self._runner.only_substitute:
            raise not_there(step.name, self._runner.knowledge.sources)
        if isinstance(step, Fetch):
            async with self._downloads.place(self._length(step)):
                return await self._thread(lambda: self._runner.fetch(step))
        had = await self._each_input(step, self._have)
        # from what was had, not from what was known: a collected input may have been rebuilt to something else
        derivation = step.resolve({ref: each.object.nar_hash for ref, each in had.items()})
        inputs = _by_name(step, had)
        async with self._builds.place(self._length(step)):
            return await self._thread(lambda: self._runner.build(step, derivation, inputs))

    async def _thread(self, work: Callable[[], T]) -> T:
        if self._runner.cancel.cancelled:
            raise CcError("interrupted", "ended before it began")
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _by_name(step: Build, had: Mapping[Ref, Realisation]) -> dict[str, Realisation]:
    inputs = {name: had[ref] for name, ref in step.inputs.items()}
    if step.root:
        inputs[""] = had[step.root]
    return inputs
