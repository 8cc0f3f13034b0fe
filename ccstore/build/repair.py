"""Getting damaged objects back: each is made again by the step that gives it, and takes its place if it is the same.

Until that has succeeded the damaged object stays where it is: most of it may still be whole.
"""

from __future__ import annotations

from collections.abc import Iterable

from ccstore.build.workspace import Options, Workspace
from ccstore.errors import CcError
from ccstore.events import Noted, Sink
from ccstore.model.graph import Build, Local, Ref
from ccstore.model.storepath import StorePath
from ccstore.store.mend import mend
from ccstore.store.verify import Damage, verify

REPAIRABLE = ("missing", "content", "metadata", "manifest")


def repair(work: Workspace, found: list[Damage], *, full: bool, sink: Sink) -> list[Damage]:
    """Makes every damaged object again that a recipe of this project gives; the result is what is still wrong."""
    found = mend(work.store, found)
    damaged = {each.path for each in found if each.path and each.kind in REPAIRABLE}
    makers = _makers(work, damaged)
    for path in sorted(damaged - set(makers)):
        sink(Noted(f"no recipe of this project, as it is now, gives {path}", warning=True))
    for path, ref in makers.items():
        try:
            work.realize_refs([ref], sink=sink, options=Options(), damaged=damaged)
        except CcError as error:
            sink(Noted(f"{path} could not be made again: {error}", warning=True))
        if path in damaged:
            sink(Noted(f"{path} is still damaged: what {ref.step} gives now is something else", warning=True))
    return verify(work.store, full, sink)


def _makers(work: Workspace, damaged: Iterable[StorePath]) -> dict[StorePath, Ref]:
    """For each damaged object the output that gives it, inputs before what uses them."""
    wanted = set(damaged)
    targets = [
        Ref(name, output)
        for name, step in work.graph.steps.items()
        for output in (step.outputs if isinstance(step, Build) else ("out",))
        if not isinstance(step, Local) or step.path.exists()
    ]
    return {
        realisation.object.path: Ref(name, output)
        for name, here in work.resolve(targets).items()
        for output, realisation in here.outputs.items()
        if realisation.object.path in wanted
    }
