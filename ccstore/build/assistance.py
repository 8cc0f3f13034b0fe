"""Making a build faster by what earlier builds left, without a change to what comes out (DESIGN, rule 11).

*assisted*     the build sees a compile cache, `/ccache`, of its toolchain, or has a cluster compile
*incremental*  it goes on in the folder that the last build of the same step left, and sees what changed since then as
               changed now; `make` does the rest

Neither is in a derivation's id. What was made so says so: its realisation has that purity.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from ccstore.build.resolve import Outputs
from ccstore.codec.rechannel import Remote
from ccstore.errors import CcError
from ccstore.events import Noted, Sink
from ccstore.executor import layout
from ccstore.executor.distribute import distributed
from ccstore.model.derivation import Derivation
from ccstore.model.graph import Build, Step
from ccstore.model.hashes import Sha256
from ccstore.model.realisation import Purity, Realisation, worst
from ccstore.ports import Assistance, BuildRequest, BuildResult, Cancel, CompileCache, Launcher, Tree
from ccstore.recipe.scripts import script
from ccstore.store.compile_cache import compile_cache
from ccstore.store.history import History, Usual
from ccstore.store.store import Store
from ccstore.store.warm import Inputs, Warm, borrow_folder


@dataclass(frozen=True, slots=True)
class Wish:
    """What a run asks for: a compile cache, or compiling on a cluster, and going on where the last build of the same
    project's step ended; or, with `pure`, that nothing counts which was made so."""

    project: str = ""
    compile_cache: bool = False
    distribute: bool = False
    incremental: bool = False
    pure: bool = False

    @property
    def accepts(self) -> Purity:
        """The worst purity that answers a run with this wish."""
        if self.pure:
            return "clean"
        return "incremental" if self.incremental else "assisted"


CLEAN = Wish()


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where `Wish.distribute` compiles, and the root tree that has recc."""

    remote: Remote
    recc: Tree


@dataclass
class Assisted:
    """A request with what it was given, and the purity of what it makes."""

    request: BuildRequest
    purity: Purity = "clean"
    warm: Warm | None = None

    def ended(self, result: BuildResult) -> None:
        if self.warm:
            self.warm.in_order = result.in_order

    def made(self, name: str, before: Outputs, now: Outputs) -> Outputs:
        """What to write down of `now`, given what was known `before`: a purer word for the same object stays.

        Raises `not-reproducible` if a purer build gave something else.
        """
        kept = {output: _purer(before.get(output), each) for output, each in now.items()}
        wrong = [output for output, each in kept.items() if each.object != now[output].object]
        if self.warm:
            self.warm.wrong, self.warm.succeeded = bool(wrong), not wrong
        if wrong:
            raise self._differs(name, wrong[0], kept[wrong[0]], now[wrong[0]])
        return kept

    def _differs(self, name: str, output: str, before: Realisation, now: Realisation) -> CcError:
        folder = "; its folder was thrown away" if self.warm else ""
        return CcError(
            "not-reproducible",
            f"{name}^{output}: the {now.purity} build gave something else than the {before.purity} one{folder}",
            details=(f"{before.purity}: {before.object.path}", f"{now.purity}: {now.object.path}"),
            hint=f"`ccstore realize --pure {name}` builds it without what earlier builds left",
        )


def _purer(before: Realisation | None, now: Realisation) -> Realisation:
    if before and before.purity != now.purity and worst([before.purity, now.purity]) == now.purity:
        return before
    return now


@contextmanager
def assisted(
    wish: Wish,
    store: Store,
    step: Build,
    derivation: Derivation,
    objects: Inputs,
    request: BuildRequest,
    sink: Sink,
    cancel: Cancel,
    cluster: Cluster | None = None,
) -> Iterator[Assisted]:
    """`request` with the assistance that `wish` asks for and `step` can use; `objects` are the inputs of the request,
    the toolchain under "". Raises as `ccstore.store.warm.borrow_folder`, and as `ccstore.executor.distribute`."""
    found = Assisted(request)
    given = Assistance()
    with ExitStack() as stack:
        if wish.compile_cache and step.resumes:
            if layout.has_compile_cache(request):
                cache = CompileCache(compile_cache(store.layout, objects[""]), script("cached.sh"))
                given, found.purity = replace(given, compile_cache=cache), "assisted"
            else:
                sink(
                    Noted(f"no compile cache: the toolchain has no /{layout.CCACHE}", step.name, warning=True)
                )
        if cluster and step.resumes:
            launcher = stack.enter_context(_launched(cluster, request, sink, cancel))
            given, found.purity = replace(given, launcher=launcher), "assisted"
        if wish.incremental and step.resumes:
            inputs = {name: path for name, path in objects.items() if name}
            name, key = (wish.project, step.name), folder_key(derivation)

            def waits(holder: str) -> None:
                sink(Noted(f"waits for {holder}, which builds in the same folder", step.name))

            warm = stack.enter_context(borrow_folder(store.layout, name, key, inputs, waits, cancel))
            given, found.warm = replace(given, build=warm.build, changed=warm.changed), warm
            if warm.used:
                found.purity = "incremental"
            if warm.emptied:
                sink(Noted(f"begins with an empty folder: {warm.emptied}", step.name))
        found.request = replace(request, assistance=given)
        yield found


@contextmanager
def _launched(cluster: Cluster, request: BuildRequest, sink: Sink, cancel: Cancel) -> Iterator[Launcher]:
    """What compiles on the cluster; says at the end how that went."""
    folder = request.scratch.with_name("cluster")
    folder.mkdir()
    text = script("compiler.sh")
    with distributed(cluster.remote, cluster.recc, text, request, folder, cancel) as (launcher, tally):
        yield launcher
    sink(Noted(str(tally), request.label, warning=bool(tally.here)))


def folder_key(derivation: Derivation) -> str:
    """What a build folder was built from, but for the content of the inputs: 64 hex digits."""
    anything = Sha256.of(b"")
    return replace(derivation, inputs=dict.fromkeys(derivation.inputs, anything)).id


def usual_of(history: History, step: Step, wish: Wish) -> Usual | None:
    """What `step` usually takes with the assistance that `wish` asks for, else without."""
    resumes = isinstance(step, Build) and step.resumes
    purities: list[Purity] = ["clean"]
    if resumes and (wish.compile_cache or wish.distribute):
        purities.append("assisted")
    if resumes and wish.incremental:
        purities.append("incremental")
    found = (history.usual(step.name, purity) for purity in reversed(purities))
    return next((each for each in found if each), None)
