"""Getting damaged objects back: each is made again by the step that gives it, and takes its place if it is the same.
What no step gives, as the recipes are now, may be in a cache under its name.

Until that has succeeded the damaged object stays where it is: most of it may still be whole. Records that were lost
come back in the same way: a derivation is written down anew, a realisation's step is run again.
"""

from __future__ import annotations

from collections.abc import Iterable

from ccstore.build.pulling import restore
from ccstore.build.resolve import Resolved
from ccstore.build.workspace import Options, Workspace
from ccstore.errors import CcError
from ccstore.events import Noted, Sink
from ccstore.model.graph import Build, Local, Ref
from ccstore.model.storepath import StorePath
from ccstore.ports import Fault, no_fault
from ccstore.store import files
from ccstore.store.damage import REPAIRABLE, Damage
from ccstore.store.mend import forgotten, mend
from ccstore.store.verify import verify


def repair(
    work: Workspace, found: list[Damage], *, full: bool, sink: Sink, fault: Fault = no_fault
) -> list[Damage]:
    """Makes every damaged object again that a recipe of this project gives; the result is what is still wrong."""
    found = _rewrite_derivations(work, found, fault)
    lost = forgotten(found)
    found = mend(work.store, found, fault)
    damaged = {each.path for each in found if each.path and each.kind in REPAIRABLE}
    _make_again(work, damaged, sink, fault)
    _realise_again(work, lost, sink, fault)
    _root_again(work, [each for each in found if each.kind == "root"], fault)
    return verify(work.store, full, sink)


def _rewrite_derivations(work: Workspace, found: list[Damage], fault: Fault) -> list[Damage]:
    """What a derivation says follows from the recipes: no build is needed for it. Returns what else is wrong."""
    lost = {each.file.name for each in found if each.kind == "derivation"}
    if not lost:
        return found
    for step in work.resolve(_outputs(work)).values():
        if step.derivation and step.derivation.id in lost:
            work.store.realisations.record(step.derivation, [], fault)
            lost.remove(step.derivation.id)
    return [each for each in found if each.kind != "derivation" or each.file.name in lost]


def _make_again(work: Workspace, damaged: set[StorePath], sink: Sink, fault: Fault) -> None:
    makers = _makers(work, damaged)
    bare = damaged - set(makers)
    restore(work.store, work.caches, bare, sink, fault)
    for path in sorted(bare):
        sink(
            Noted(f"no recipe of this project, as it is now, gives {path}, and no cache has it", warning=True)
        )
    for path, ref in makers.items():
        try:
            work.realize_refs([ref], sink=sink, options=Options(), damaged=damaged, fault=fault)
        except CcError as error:
            sink(Noted(f"{path} could not be made again: {error}", warning=True))
        if path in damaged:
            sink(Noted(f"{path} is still damaged: what {ref.step} gives now is something else", warning=True))


def _makers(work: Workspace, damaged: Iterable[StorePath]) -> dict[StorePath, Ref]:
    """For each damaged object the output that gives it, inputs before what uses them."""
    wanted = set(damaged)
    return {
        realisation.object.path: Ref(name, output)
        for name, here in work.resolve(_outputs(work)).items()
        for output, realisation in here.outputs.items()
        if realisation.object.path in wanted
    }


def _outputs(work: Workspace) -> list[Ref]:
    """Every output of the project whose sources are there."""
    return [
        Ref(name, output)
        for name, step in work.graph.steps.items()
        for output in (step.outputs if isinstance(step, Build) else ("out",))
        if not isinstance(step, Local) or step.path.exists()
    ]


def _realise_again(work: Workspace, lost: set[str], sink: Sink, fault: Fault) -> None:
    """Runs the steps of derivations whose realisations were lost; each may tell what the next one's derivation is."""
    tried: set[str] = set()
    while True:
        steps = work.resolve(_outputs(work)).values()
        ready = {each.derivation.id: each.step for each in steps if each.derivation and _can_be_lost(each)}
        waiting = (ready.keys() & lost) - tried
        if not waiting:
            return
        for derivation in sorted(waiting):
            tried.add(derivation)
            step = ready[derivation]
            output = step.outputs[0] if isinstance(step, Build) else "out"
            try:
                work.realize_refs([Ref(step.name, output)], sink=sink, options=Options(), fault=fault)
            except CcError as error:
                sink(Noted(f"{step.name} could not be realised again: {error}", warning=True))


def _can_be_lost(here: Resolved) -> bool:
    """What a local file gives is known without its record."""
    return isinstance(here.step, Local) or not here.realised


def _root_again(work: Workspace, found: list[Damage], fault: Fault) -> None:
    """Writes roots of this project anew that cannot be read, if their targets are realised as they are now."""
    for damage in found:
        name = f"{damage.file.parent.name}/{damage.file.name}"
        try:
            ref = work.graph.find(damage.file.name)
        except CcError:
            continue  # no target of this project
        realisation = work.realised(ref) if work.root_name(damage.file.name) == name else None
        if realisation:
            files.remove(damage.file)  # it may be a folder
            work.store.roots.add(name, realisation.object.path, realisation.id, fault)
