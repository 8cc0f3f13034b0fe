"""A project and its store, opened together: the Python API under every verb of the command line.

with Workspace.open(Path.cwd()) as work:
    [(ref, realisation)] = work.realize(["kernel"], sink=print).items()
    print(work.store.objects.path(realisation.object.path))
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType

from ccstore.build import evaluation
from ccstore.build.assistance import CLEAN, Cluster, Wish, usual_of
from ccstore.build.caches import chosen, configured, to_text, trusted_keys
from ccstore.build.estimate import Estimate, Limits, estimate
from ccstore.build.evaluation import Known
from ccstore.build.forecast import Forecast
from ccstore.build.knowledge import Knowledge, in_waves
from ccstore.build.lineage import lineage_of
from ccstore.build.plan import Expected, History, Planned, plan, similar
from ccstore.build.realize import DOWNLOADS, realize
from ccstore.build.remotes import configured_remote
from ccstore.build.resolve import Resolved, resolve
from ccstore.build.runner import Runner
from ccstore.cache.source import Source
from ccstore.cache.sources import Sources
from ccstore.codec.nar import nar_hash
from ccstore.codec.rechannel import Remote
from ccstore.errors import CcError
from ccstore.events import Foreseen, Noted, Sink, all_of, ignore
from ccstore.executor.distribute import RECC
from ccstore.executor.docker import Docker
from ccstore.executor.jobserver import Jobserver
from ccstore.executor.remote import RemoteExecutor
from ccstore.executor.sandbox import Sandbox
from ccstore.fetch.mirrors import Mirrors
from ccstore.model.derivation import AnyDerivation
from ccstore.model.graph import Graph, Local, Ref, Step
from ccstore.model.hashes import Sha256
from ccstore.model.lineage import Lineage
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import Purity, Realisation, worst
from ccstore.model.storepath import StorePath
from ccstore.ports import Cancel, Executor, Fault, no_fault
from ccstore.recipe.lower import lower
from ccstore.recipe.project import (
    Project,
    UserConfig,
    files_of_user,
    load_project,
    load_user_config,
)
from ccstore.store.failures import explained
from ccstore.store.store import Store

REMOTE_JOBS = 16  # builds at once on a cluster, which has its own queue


@dataclass(frozen=True, slots=True)
class Options:
    """How to realise: `jobs` builds at once, `cores` make jobs in all of them together (in each, where Docker or a
    remote service runs them); None: as configured, else as the host has.

    Caches are asked if `substitute`; `cache` names one that is asked alone. Without `build` nothing else is done.
    `assist`: builds see a compile cache (None: as configured, and never where the variable CI is set); `distribute`:
    they compile on the service for remote execution; `incremental`: they go on where the last one ended; `pure`: none
    of it is done, and nothing so made counts (build/assistance.py).
    """

    jobs: int | None = None
    cores: int | None = None
    keep_failed: bool = False
    executor: str | None = None
    substitute: bool = True
    cache: str | None = None
    build: bool = True
    remote: str | None = None
    assist: bool | None = None
    distribute: bool = False
    incremental: bool = False
    pure: bool = False


@dataclass
class Workspace:
    """One project, evaluated as it is now, and the store it builds into."""

    project: Project
    user: UserConfig
    store: Store
    began: int
    _contents: dict[Path, tuple[Sha256, int]] = field(default_factory=dict)

    @classmethod
    def open(cls, project_root: Path, store_root: Path) -> Workspace:
        """Raises CcError for a recipe that is wrong and for a store that cannot be used."""
        return cls.load(project_root, lambda: Store.open(store_root))

    @classmethod
    def load(cls, project_root: Path, store: Callable[[], Store]) -> Workspace:
        """Like `open`, with a store that is asked for once the project is loaded."""
        began = evaluation.clock()
        project, user = load_project(project_root), load_user_config(os.environ)
        return cls(project, user, store(), began)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.store.close()

    @cached_property
    def graph(self) -> Graph:
        return lower(self.project)

    @cached_property
    def mirrors(self) -> Mirrors:
        return Mirrors.from_host(os.environ, self.user.mirrors, self.project.config.mirrors)

    def find(self, targets: list[str]) -> list[Ref]:
        return [self.graph.find(target) for target in targets]

    def local_content(self, step: Local) -> ObjectInfo:
        """The NAR hash of a file or folder of the project as it is now, read once in a run."""
        if step.path not in self._contents:
            try:
                self._contents[step.path] = nar_hash(step.path)
            except OSError as error:
                message = f"{step.path} cannot be read: {error.strerror}"
                hint = "give a file or folder that is there and that you may read"
                raise CcError("file-missing", message, where=step.where or None, hint=hint) from error
            except CcError as error:  # a FIFO, a socket or a device
                hint = (
                    "only files, folders and links can be in the store: take it out, or name another folder"
                )
                details = (error.where,) if error.where else ()
                raise CcError(
                    "recipe-invalid", error.message, where=step.where or None, hint=hint, details=details
                ) from error
        digest, size = self._contents[step.path]
        return ObjectInfo(StorePath.of_content(step.object_name, digest), digest, size)

    @cached_property
    def service(self) -> Remote | None:
        """The service for remote execution that is configured."""
        return configured_remote((self.project.config, self.project.root), self.user, os.environ)

    @cached_property
    def caches(self) -> list[Source]:
        """The configured caches."""
        return configured(self.project.config, self.user, service=self.service)

    def sources(self, options: Options, sink: Sink, cancel: Cancel) -> Sources | None:
        """The caches that are asked; to be closed."""
        found = chosen(self.caches, options.cache, self.service) if options.substitute else []
        return Sources(found, sink, cancel) if found else None

    @cached_property
    def knowledge(self) -> Knowledge:
        """What the store itself knows, as far as this project believes it."""
        return self._knowledge()

    def _knowledge(self, sources: Sources | None = None, accepts: Purity = "assisted") -> Knowledge:
        unsigned = any(each.trusted for each in self.caches)
        return Knowledge(self.store, trusted_keys(self.caches), sources, accepts, unsigned)

    def resolve(self, targets: list[Ref], accepts: Purity = "assisted") -> dict[str, Resolved]:
        return resolve(self.graph, targets, self.local_content, self.knowledge.local, accepts)

    def plan(self, targets: list[Ref], options: Options | None = None, sink: Sink = ignore) -> list[Planned]:
        """What would be done. Follows realisations through caches, and fetches no object."""
        with contextlib.ExitStack() as stack:
            sources = self.sources(options or Options(), sink, Cancel())
            if sources:
                stack.enter_context(sources)
            return self._plan(targets, sources, self.wish(options or Options()))

    def _plan(self, targets: list[Ref], sources: Sources | None, wish: Wish) -> list[Planned]:
        history = History(partial(self.expected, wish=wish), self._last_derivation)
        accepts = wish.accepts
        known = self._resolve_with(sources, targets, accepts) if sources else self.resolve(targets, accepts)
        return in_waves(
            lambda offered: plan(self.graph, targets, known, self.store.objects.has, history, offered),
            sources.available if sources else dict.fromkeys,
        )

    def _resolve_with(self, sources: Sources, targets: list[Ref], accepts: Purity) -> dict[str, Resolved]:
        local = self.knowledge.local
        return in_waves(
            lambda asked: resolve(
                self.graph,
                targets,
                self.local_content,
                lambda output: local(output) or asked(output),
                accepts,
            ),
            sources.realisations,
        )

    def estimate(self, planned: list[Planned], options: Options) -> Estimate:
        """How long the steps of a plan will take."""
        return estimate(planned, self.graph, self._limits(options))

    def _limits(self, options: Options) -> Limits:
        executor = self.executor_name(options.executor)
        usual = REMOTE_JOBS if executor == RemoteExecutor.name else 2
        jobs = options.jobs or self.project.config.jobs or self.user.jobs or usual
        cores = self.cores(options)
        if executor == Sandbox.name:
            jobs = min(jobs, cores)  # each of them holds one of its tokens
        return Limits(jobs, DOWNLOADS, cores)

    def cores(self, options: Options) -> int:
        """The make jobs that builds may use."""
        return options.cores or self.project.config.cores or self.user.cores or os.cpu_count() or 1

    def realised(self, target: Ref) -> Realisation | None:
        """What `target` gives as the recipe is now, if that has been made and is still here."""
        known = self.resolve([target])[target.step].outputs.get(target.output)
        return known if known and self.store.objects.has(known.object.path) else None

    def require_realised(self, target: str) -> Realisation:
        """Like `realised`, by name; raises `not-realised`."""
        known = self.realised(self.graph.find(target))
        if known is None:
            raise CcError(
                "not-realised",
                f"{target} is not realised as its recipe is now",
                hint=f"`ccstore realize {target}` makes it, `ccstore plan {target}` says what that takes",
            )
        return known

    def realize(
        self,
        targets: list[str],
        *,
        sink: Sink = ignore,
        options: Options | None = None,
        cancel: Cancel | None = None,
        foresee: bool = False,
        fault: Fault = no_fault,
    ) -> Mapping[Ref, Realisation]:
        """Makes the targets exist, in order, and roots each under its name; with `foresee`, `sink` hears how long
        that takes."""
        refs = self.find(targets)
        names = {self.root_name(target): ref for target, ref in zip(targets, refs, strict=True)}
        found = self.realize_refs(
            refs,
            sink=sink,
            options=options or Options(),
            cancel=cancel,
            roots=names,
            foresee=foresee,
            fault=fault,
        )
        self._keep_lineages(names, worst([each.purity for each in found.values()]))
        try:
            for target, ref in zip(targets, refs, strict=True):
                if found[ref].purity != "incremental":
                    self._remember(target, ref, found[ref])
        except OSError as error:  # the answer is right all the same, and only the next one takes longer
            sink(Noted(f"the answer could not be cached: {error}", warning=True))
        return found

    def _keep_lineages(self, roots: Mapping[str, Ref], purity: Purity) -> None:
        """Writes down what each root was made from, for those who ask later what has changed."""
        resolved = self.resolve(list(roots.values()), worst([purity, "assisted"]))
        for name, ref in roots.items():
            self.store.lineages.record(name, lineage_of(self.graph, ref, resolved, texts=True))

    def lineage(self, target: Ref) -> Lineage:
        """What `target` is made from as the project is now."""
        return lineage_of(self.graph, target, self.resolve([target]), texts=False)

    def realize_refs(
        self,
        refs: list[Ref],
        *,
        sink: Sink,
        options: Options,
        cancel: Cancel | None = None,
        roots: Mapping[str, Ref] | None = None,
        damaged: set[StorePath] | None = None,
        foresee: bool = False,
        fault: Fault = no_fault,
    ) -> Mapping[Ref, Realisation]:
        """Makes outputs exist and names some as `roots`; objects in `damaged` are made again, and leave the set."""
        self.store.watch(sink)
        cancel = cancel or Cancel()
        wish = self.wish(options)
        cluster = self._cluster(options, sink, cancel) if wish.distribute else None
        with self.store.session() as session, contextlib.ExitStack() as stack:
            sources = self.sources(options, sink, cancel)
            if sources:
                stack.enter_context(sources)
            knowledge = self._knowledge(sources, wish.accepts)
            limits = self._limits(options)
            if foresee:
                forecast = Forecast(self._plan(refs, sources, wish), self.graph, limits)
                sink(Foreseen(forecast.remaining))
                sink = all_of(forecast, sink)
            executor = self.executor(options.executor, sink, options.remote)
            runner = Runner(
                store=self.store,
                session=session,
                executor=executor,
                wish=wish,
                cluster=cluster,
                mirrors=self.mirrors,
                sink=sink,
                cancel=cancel,
                cores=limits.processors,
                knowledge=knowledge,
                jobserver=_jobserver(executor, limits, stack),
                keep_failed=options.keep_failed,
                only_substitute=not options.build,
                damaged=damaged if damaged is not None else set(),
                fault=fault,
            )
            found = realize(
                self.graph, refs, runner, self.local_content, limits.jobs, partial(self._seconds, wish)
            )
            fault("made")
            with explained(self.store.root), self.store.gc_lock.shared():
                knowledge.keep()
                for name, ref in (roots or {}).items():
                    self.store.roots.add(name, found[ref].object.path, found[ref].id, fault)
        return found

    def wish(self, options: Options) -> Wish:
        """The assistance that builds get. Raises `usage` for what does not go together."""
        asked = options.assist or options.distribute or options.incremental
        if options.pure and asked:
            hint = "--pure does without all help: leave one of them out"
            raise CcError("usage", "--pure refuses --assist, --distribute and --incremental", hint=hint)
        if options.assist and options.distribute:
            hint = "the service remembers what it compiled: leave --assist out"
            raise CcError("usage", "--distribute does without a compile cache of this host", hint=hint)
        if options.incremental and options.keep_failed:
            hint = "its folder is kept anyway, for the next build: leave --keep-failed and --shell-on-failure out"
            raise CcError("usage", "an incremental build that fails leaves nothing to keep", hint=hint)
        local = self.executor_name(options.executor) == "sandbox"
        if asked and not local:
            hint = "builds in Docker and on a cluster are always clean: leave the option out, or --executor sandbox"
            message = "only builds in the sandbox can have --assist, --distribute and --incremental"
            raise CcError("usage", message, hint=hint)
        assist = options.assist
        if assist is None and not os.environ.get("CI"):
            assist = self.project.config.assist or self.user.assist
        cache = bool(assist) and local and not options.pure and not options.distribute
        project = self.project.config.project
        return Wish(project, cache, options.distribute, options.incremental, options.pure)

    def _cluster(self, options: Options, sink: Sink, cancel: Cancel) -> Cluster:
        """What compiles where, with the tree of recc realised and rooted. Raises `usage`, `tool-missing`."""
        remote, target = self.remote(options.remote), self.project.config.recc or self.user.recc
        if target is None:
            hint = "`recc: TARGET` in recipes/ccstore.yml, a recipe of kind debian with the package buildbox"
            raise CcError(
                "usage", "no root tree with recc is configured, which --distribute needs", hint=hint
            )
        ref, plain = self.graph.find(target), replace(options, distribute=False)
        roots = {self.root_name(target): ref}
        found = self.realize_refs([ref], sink=sink, options=plain, cancel=cancel, roots=roots)[ref]
        tree = self.store.objects.tree(found.object.path)
        if not (tree.path / RECC).is_file():
            hint = "add the package buildbox to its recipe"
            raise CcError("tool-missing", f"{target} has no /{RECC}, which --distribute needs", hint=hint)
        return Cluster(remote, tree)

    def remote(self, url: str | None = None) -> Remote:
        """The service for remote execution: as configured, or another one at `url`. Raises `usage`.

        Another one is not told who we are to the one that is configured: no token, headers or certificate of ours.
        """
        if self.service is None and url is None:
            hint = "--remote URL, or `remote: {url: …}` in recipes/ccstore.yml or in your own config.yml"
            raise CcError("usage", "no service for remote execution is configured", hint=hint)
        found = self.service
        if found is None or url not in (None, found.url):
            return Remote(url or "", ca=found.ca if found else None)
        return found

    def executor(
        self,
        name: str | None = None,
        sink: Sink = ignore,
        remote: str | None = None,
        fresh: bool = False,
    ) -> Executor:
        """What runs builds: as `name` says, else as configured, else the sandbox; `remote` is a service's URL.

        With `fresh` it gives no result of an earlier build.
        """
        wanted = self.executor_name(name)
        if wanted == "docker":
            return Docker(self.store.layout.docker, os.environ, sink)
        if wanted == "remote":
            return RemoteExecutor(self.remote(remote), fresh, sink)
        return Sandbox()

    def executor_name(self, name: str | None = None) -> str:
        """As `name` says, else as configured, else the sandbox."""
        return name or self.project.config.executor or self.user.executor or Sandbox.name

    def root_name(self, target: str) -> str:
        return f"{self.project.config.project}/{target}"

    def answer_also(self, label: str, target: str) -> None:
        """From now on the evaluation cache gives for `label` what it gives for `target`, which is realised."""
        with contextlib.suppress(OSError):  # the next answer takes longer, and is the same
            self._remember(target, self.graph.find(target), self.require_realised(target), label)

    def _remember(self, target: str, ref: Ref, realisation: Realisation, label: str = "") -> None:
        of_user, absent = files_of_user(os.environ)
        evaluation.record(
            str(self.store.root),
            str(self.project.root),
            label or target,
            Known(realisation.object.path.base, self.root_name(target), ref.step, to_text(self.caches)),
            self.began,
            list(dict.fromkeys([*of_user, *self.files_behind([ref])])),
            absent,
        )

    def files_behind(self, targets: list[Ref]) -> list[str]:
        """Every file and folder of this machine whose change can change `targets`."""
        read = [*map(str, self.project.files_read), *map(str, self.project.dirs_listed)]
        for step in self.graph.closure(*targets):
            if isinstance(step, Local):
                read += _files_of(step.path)
        return list(dict.fromkeys(read))

    def expected(self, step: Step, wish: Wish = CLEAN) -> Expected | None:
        """What a step takes, by its own history, else by that of another that does the same work on other inputs."""
        for each in (step, *similar(self.graph, step)):
            usual = usual_of(self.store.history, each, wish)
            if usual:
                return Expected(each.name, usual.seconds, usual.cpu_seconds)
        return None

    def _seconds(self, wish: Wish, step: Step) -> float:
        expected = None if isinstance(step, Local) else self.expected(step, wish)
        return expected.seconds if expected else 0.0

    def _last_derivation(self, step: str) -> AnyDerivation | None:
        last = self.store.history.last(step)
        return self.store.realisations.derivation(last.derivation) if last else None


def _jobserver(executor: Executor, limits: Limits, stack: contextlib.ExitStack) -> Jobserver | None:
    """For builds on this machine alone."""
    return stack.enter_context(Jobserver(limits.processors)) if isinstance(executor, Sandbox) else None


def _files_of(path: Path) -> Iterator[str]:
    """The path itself and, for a folder, everything in it."""
    yield str(path)
    if path.is_dir() and not path.is_symlink():
        for folder, folders, files in os.walk(path):
            yield from (os.path.join(folder, name) for name in (*folders, *files))
