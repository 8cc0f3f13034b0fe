"""Making one step's outputs, in the thread that called: build, fetch or copy, then register.

Every function here holds the derivation's lock while it works and looks again once it has it: of two processes
that want the same derivation one does the work, and the other finds it done (DESIGN, rule 8).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ccstore.build.assistance import CLEAN, Assisted, Cluster, Wish, assisted, usual_of
from ccstore.build.buildlog import BuildLog
from ccstore.build.failure import build_error
from ccstore.build.kept import keep
from ccstore.build.knowledge import Knowledge
from ccstore.build.request import request_of
from ccstore.build.resolve import Outputs
from ccstore.build.stopwatch import Stopwatch
from ccstore.build.substitute import receive
from ccstore.debian.unpack import debian_tree
from ccstore.errors import CcError
from ccstore.events import Kept, Noted, Sink, ignore, reported
from ccstore.executor.jobserver import Jobserver
from ccstore.fetch.fetch import fetch
from ccstore.fetch.mirrors import Mirrors
from ccstore.model.derivation import BUILTIN, AnyDerivation, Derivation, FixedOutput
from ccstore.model.graph import Build, Fetch, Local
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import OutputId, Purity, Realisation, worst
from ccstore.model.storepath import StorePath
from ccstore.ports import BuildRequest, BuildResult, Cancel, Executor, Fault, Tree, no_fault
from ccstore.store.history import Run
from ccstore.store.session import Session
from ccstore.store.store import Store

FULL_BELOW = 16 << 20  # bytes: what failed may have given a little back already
FEW_INODES = 100
Builtin = Callable[[Mapping[str, Tree], Mapping[str, str], Path, Cancel], None]
BUILTINS: Mapping[str, Builtin] = {"debian-tree": debian_tree}


@dataclass(frozen=True, slots=True)
class Runner:
    """What making a step needs besides the step. `cores` is the make jobs that one build may use, or, with a
    `jobserver`, all of them together.

    With `only_substitute` what is not here comes from a cache or not at all. Objects in `damaged` count as missing
    until they were made again, which takes them out of the set.
    """

    store: Store
    session: Session
    executor: Executor
    mirrors: Mirrors
    sink: Sink
    cancel: Cancel
    cores: int
    knowledge: Knowledge
    jobserver: Jobserver | None = None
    keep_failed: bool = False
    only_substitute: bool = False
    damaged: set[StorePath] = field(default_factory=set)
    wish: Wish = CLEAN
    cluster: Cluster | None = None
    fault: Fault = no_fault
    builtins: Mapping[str, Builtin] = field(default_factory=lambda: BUILTINS)

    def build(self, step: Build, derivation: Derivation, inputs: Mapping[str, Realisation]) -> Outputs:
        """Builds `step`; `inputs` has the realisation of each input by name, and of the root under ""."""
        with self._locked(step.name, derivation) as done:
            if done:
                return done
            usual = usual_of(self.store.history, step, self.wish)
            with self._job():
                watch = Stopwatch(step.name, self.sink)
                with reported(self.sink, step.name, "build", usual.seconds if usual else None):
                    if step.argv[0].startswith(BUILTIN):
                        return self._build_builtin(step, derivation, inputs, watch)
                    return self._build_sandboxed(step, derivation, inputs, watch)

    def _job(self) -> AbstractContextManager[None]:
        return self.jobserver.job(self.cancel) if self.jobserver else nullcontext()

    def fetch(self, step: Fetch) -> Outputs:
        with self._locked(step.name, step.fixed) as done:
            if done:
                return done
            watch = Stopwatch(step.name, self.sink)
            with reported(self.sink, step.name, "fetch"):
                with self.session.staging(step.fixed.name) as staging:
                    info = self._download(step, staging, watch)
                outputs = self._record(step.name, step.fixed, {"out": info}, [], "fetch", watch)
                self._remember(step.fixed, watch, "fetch")
            return outputs

    def _download(self, step: Fetch, staging: Path, watch: Stopwatch) -> ObjectInfo:
        target, scratch = staging / "out", staging / "scratch"
        scratch.mkdir()
        with watch.phase("download"):
            fetch(
                step,
                target,
                mirrors=self.mirrors,
                partials=self.store.layout.partial,
                scratch=scratch,
                sink=self.sink,
                cancel=self.cancel,
            )
        self.fault("fetch")
        nar_hash = step.fixed.sha256 if step.fixed.method == "nar" else None
        with watch.phase("register"):
            return self._register_one(target, step.fixed.name, nar_hash)

    def copy(self, step: Local, fixed: FixedOutput) -> Outputs:
        with self._locked(step.name, fixed) as done:
            if done:
                return done
            info = self.session.add(step.path, step.object_name, replace=self.damaged, fault=self.fault)
            self.damaged.discard(info.path)
            if info.nar_hash != fixed.sha256:
                raise CcError(
                    "file-changed",
                    f"{step.path} changed while it was read",
                    where=step.where or None,
                    hint="run the same command again",
                )
            return self._record(step.name, fixed, {"out": info}, [], "local", Stopwatch(step.name, ignore))

    def substitute(self, name: str, info: ObjectInfo) -> bool:
        """Gets an object from the first cache that has it, all of it and right; False if none has."""
        sources = self.knowledge.sources
        if sources is None or next(sources.offers(info, name), None) is None:
            return False
        with self.store.locks.object(info.path, partial(self._waiting, name), self.cancel):
            self.session.protect(info.path)
            if info.path not in self.damaged and self.store.objects.has(info.path):
                return True
            store, session = self.store, self.session
            return receive(
                sources, info, name, store, session, self.sink, self.cancel, self.damaged, self.fault
            )

    def present(self, outputs: Outputs) -> bool:
        """Whether every object is there, and stays there from now on."""
        for each in outputs.values():
            self.session.protect(each.object.path)
        paths = [each.object.path for each in outputs.values()]
        return not self.damaged.intersection(paths) and all(map(self.store.objects.has, paths))

    def _waiting(self, name: str, holder: str) -> None:
        self.sink(Noted(f"waits for {holder}, which makes the same", name))

    @contextmanager
    def _locked(self, name: str, derivation: AnyDerivation) -> Iterator[Outputs | None]:
        with self.store.locks.derivation(derivation.id, partial(self._waiting, name), self.cancel):
            self.fault("derivation-lock")
            if self.cancel.cancelled:
                raise CcError("interrupted", f"{name} was not begun")
            outputs = self.knowledge.outputs(derivation)
            yield outputs if outputs and self.present(outputs) else None

    def _build_builtin(
        self, step: Build, derivation: Derivation, inputs: Mapping[str, Realisation], watch: Stopwatch
    ) -> Outputs:
        trees = {name: self._tree(each) for name, each in inputs.items()}
        with self.session.staging(step.object_name) as staging:
            with watch.phase("unpack"):
                work = self.builtins[step.argv[0].removeprefix(BUILTIN)]
                work(trees, step.files, staging / "out", self.cancel)
            if self.cancel.cancelled:
                raise CcError("interrupted", f"{step.name} was interrupted")
            with watch.phase("register"):
                objects = {"out": self._register_one(staging / "out", derivation.object_name("out"))}
        outputs = self._record(step.name, derivation, objects, list(inputs.values()), "builtin", watch)
        self._remember(derivation, watch, "builtin")
        return outputs

    def _build_sandboxed(
        self, step: Build, derivation: Derivation, inputs: Mapping[str, Realisation], watch: Stopwatch
    ) -> Outputs:
        with self.session.staging(step.object_name) as staging, ExitStack() as stack:
            with watch.phase("prepare"):
                plain = self._request(step, derivation, inputs, staging)
                objects = {name: each.object.path for name, each in inputs.items()}
                aid = assisted(
                    self.wish,
                    self.store,
                    step,
                    derivation,
                    objects,
                    plain,
                    self.sink,
                    self.cancel,
                    self.cluster,
                )
                aided = stack.enter_context(aid)
                request = aided.request
            last = self.store.history.last(step.name, purity=aided.purity)
            with self.store.logs.writer(derivation.id) as writer:
                expected = last.log_lines if last else None
                log = BuildLog(step.name, writer, self.sink, expected, lambda: _is_full(staging))
                result = self._run(request, log, watch)
                aided.ended(result)
                log.close()
            if result.outcome != "built":
                self._remember(derivation, watch, self.executor.name, result, log, aided.purity)
                kept = self._keep(step, derivation, inputs, staging, result)
                raise build_error(step, result, log, kept)
            self.fault("build")
            with watch.phase("register"):
                made = self._register(step, derivation, inputs, request.staging, result)
            outputs = self._record(
                step.name, derivation, made, list(inputs.values()), self.executor.name, watch, aided
            )
        self._remember(derivation, watch, self.executor.name, result, log, aided.purity)
        return outputs

    def _keep(
        self,
        step: Build,
        derivation: Derivation,
        inputs: Mapping[str, Realisation],
        staging: Path,
        result: BuildResult,
    ) -> Path | None:
        """Where what the build left is kept, if that was asked for."""
        if not self.keep_failed or result.outcome not in ("failed", "timeout"):
            return None
        folder = keep(self.store, staging, step.name, derivation, inputs, result)
        self.sink(Kept(step.name, str(folder)))
        return folder

    def _run(self, request: BuildRequest, log: BuildLog, watch: Stopwatch) -> BuildResult:
        """The build itself; what is neither before nor after its tools is making and removing the sandbox."""
        began = time.monotonic()
        with self.jobserver.share() if self.jobserver else nullcontext() as share:
            shared = replace(request, jobserver=share.descriptors) if share else request
            result = self.executor.build(shared, log.write, self.cancel)
        ended = time.monotonic()
        if result.began is None or result.ended is None:
            watch.add("tools", began, ended)
        else:
            watch.add("sandbox", began, result.began)
            watch.add("tools", result.began, result.ended)
            watch.add("sandbox", result.ended, ended)
        return result

    def _request(
        self, step: Build, derivation: Derivation, inputs: Mapping[str, Realisation], staging: Path
    ) -> BuildRequest:
        out, scratch = staging / "out", staging / "scratch"
        out.mkdir()
        scratch.mkdir()
        for output, name in step.overlays.items():
            if not self._tree(inputs[name]).path.is_dir():
                message = f"{step.name}: output {output} cannot be a view of {name}, which is a single file"
                hint = "an overlay is for folders: let the script copy the file"
                raise CcError("recipe-invalid", message, where=step.where or None, hint=hint)
        return request_of(
            step.name,
            derivation,
            {name: self._tree(each) for name, each in inputs.items()},
            out,
            scratch,
            cores=self.cores,
            timeout=step.timeout,
            keep_failed=self.keep_failed,
        )

    def _tree(self, realisation: Realisation) -> Tree:
        return self.store.objects.tree(realisation.object.path)

    def _register(
        self,
        step: Build,
        derivation: Derivation,
        inputs: Mapping[str, Realisation],
        out: Path,
        result: BuildResult,
    ) -> dict[str, ObjectInfo]:
        written = set(os.listdir(out))
        missing = [name for name in step.outputs if name not in written and name not in result.overlays]
        if missing:
            raise CcError(
                "output-missing",
                f"{step.name} ended well but did not write /out/{missing[0]}",
                where=step.where or None,
                hint=f"the builder must create it; `ccstore log {step.name}` shows what it did",
            )
        extra = sorted(written - set(step.outputs))
        if extra:
            raise CcError(
                "output-invalid",
                f"{step.name} wrote /out/{extra[0]}, which is no output of it",
                where=step.where or None,
                hint=f"its outputs are {', '.join(step.outputs)}: name it among them or do not write it",
            )
        objects: dict[str, ObjectInfo] = {}
        for output in step.outputs:
            name = derivation.object_name(output)
            if output in result.overlays:
                base = inputs[step.overlays[output]].object.path
                upper = result.overlays[output]
                info = self.session.register_overlay(
                    base, upper, name, replace=self.damaged, fault=self.fault
                )
                self.damaged.discard(info.path)
                objects[output] = info
            else:
                objects[output] = self._register_one(out / output, name)
        return objects

    def _register_one(self, path: Path, name: str, expected: Sha256 | None = None) -> ObjectInfo:
        info = self.session.register(path, name, expected=expected, replace=self.damaged, fault=self.fault)
        self.damaged.discard(info.path)
        return info

    def _record(
        self,
        name: str,
        derivation: AnyDerivation,
        objects: Mapping[str, ObjectInfo],
        inputs: list[Realisation],
        executor: str,
        watch: Stopwatch,
        aided: Assisted | None = None,
    ) -> Outputs:
        """Writes the realisations down."""
        purity = aided.purity if aided else "clean"
        outputs: Outputs = {
            output: Realisation(
                id=OutputId(derivation.id, output),
                object=info,
                inputs=tuple(dict.fromkeys(each.id for each in inputs)),
                executor=executor,
                purity=worst([purity, *(each.purity for each in inputs)]),
            )
            for output, info in objects.items()
        }
        before = self._before(outputs)
        outputs = aided.made(name, before, outputs) if aided else outputs
        self._compare(name, before, outputs)
        with watch.phase("record"):
            self.store.realisations.record(derivation, list(outputs.values()), self.fault)
        return outputs

    def _before(self, outputs: Outputs) -> Outputs:
        """What is known of these outputs already."""
        known = {output: self.store.realisations.get(each.id) for output, each in outputs.items()}
        return {output: each for output, each in known.items() if each}

    def _compare(self, name: str, before: Outputs, outputs: Outputs) -> None:
        """A rebuild that gives something else is news (its object was collected, or it was not clean), and so is a
        clean build that gives the same as one that was not."""
        for output, then in before.items():
            now = outputs[output]
            if then.object.nar_hash != now.object.nar_hash:
                message = f"{name}^{output} is not reproducible: it was {then.object.path}"
                if then.purity != "clean":
                    message += f" ({then.purity})"
                self.sink(Noted(f"{message}, now it is {now.object.path}", name, warning=True))
            elif then.purity != "clean" and now.purity == "clean":
                message = f"{name}^{output}: the clean build gave the same bytes as the {then.purity} one"
                self.sink(Noted(message, name))

    def _remember(
        self,
        derivation: AnyDerivation,
        watch: Stopwatch,
        executor: str,
        result: BuildResult | None = None,
        log: BuildLog | None = None,
        purity: Purity = "clean",
    ) -> None:
        """Adds the run to the step's history."""
        self.store.history.record(
            Run(
                watch.target,
                derivation.id,
                watch.seconds,
                result.cpu_seconds if result else 0.0,
                log.lines if log else 0,
                result.outcome if result else "built",
                executor,
                int(time.time()),
                watch.phases,
                result.seen if result else {},
                purity,
            )
        )


def _is_full(folder: Path) -> bool:
    """Whether the disk, and not some limit of the build's own, is what ran out."""
    free = os.statvfs(folder)
    return free.f_bavail * free.f_frsize < FULL_BELOW or free.f_favail < FEW_INODES
