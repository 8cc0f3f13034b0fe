"""Which leaves changed since a target was last realised (`ccstore why`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ccstore.build.workspace import Workspace
from ccstore.errors import CcError
from ccstore.explain import leaves
from ccstore.explain.changes import Change, changes
from ccstore.explain.leaves import Files
from ccstore.explain.recorded import recorded
from ccstore.model.graph import Local, Ref
from ccstore.model.hashes import Sha256
from ccstore.model.lineage import Lineage, Origin
from ccstore.model.realisation import OutputId
from ccstore.store.store import Store

State = Literal["current", "collected", "changed"]


@dataclass(frozen=True, slots=True)
class Answer:
    """`since` is when the target was last realised (unix time), `derivation` what it was then, if that is known.

    State `current`: nothing changed, and its object is here; `collected`: nothing changed, and it is not.
    """

    target: str
    since: int
    derivation: str | None
    state: State
    changes: tuple[Change, ...]


def why(work: Workspace, target: str) -> Answer:
    """Compares what `target` is made from now with what it was last made from. Raises `not-realised`."""
    ref = work.graph.find(target)
    old = last_lineage(work, ref)
    if old is None:
        raise CcError(
            "not-realised",
            f"{target} was never realised in this store",
            hint=f"`ccstore plan {target}` says what that takes",
        )
    resolved = work.resolve([ref])
    new = work.lineage(ref)
    found = changes(
        old, new, lambda origin: kept_files(work.store, origin), lambda each: current_files(work, each)
    )
    known = resolved[ref.step].outputs.get(ref.output)
    here = known is not None and work.store.objects.has(known.object.path)
    state: State = "changed" if found else "current" if here else "collected"
    return Answer(target, old.made, old.origins[old.top.step].derivation, state, tuple(found))


def last_lineage(work: Workspace, ref: Ref) -> Lineage | None:
    """What `ref` was made from when it, or a target that needs it, was last realised."""
    kept = [_within(each, ref) for each in work.store.lineages.of_project(work.project.config.project)]
    found = [each for each in kept if each]
    if found:
        return max(found, key=lambda each: each.made)
    last = work.store.history.last(ref.step)  # made before ccstore kept lineages, or its root is gone
    lineage = recorded(work.store, OutputId(last.derivation, ref.output)) if last else None
    return replace(lineage, made=int(last.when)) if last and lineage else None


def _within(lineage: Lineage, ref: Ref) -> Lineage | None:
    """The lineage of `ref`, if it is one of the steps."""
    origin = lineage.origins.get(ref.step)
    made = origin is not None and (ref.output in origin.contents)
    return replace(lineage, top=ref) if made else None


def kept_files(store: Store, origin: Origin) -> Files | None:
    """The files of a local origin as they were: out of the lineage, else out of the store."""
    if origin.texts is not None:
        return leaves.of_texts(origin.texts)
    content = origin.contents.get("out")
    info = store.objects.with_content(Sha256.parse(content)) if content else None
    return leaves.of_object(store, info.path) if info else None


def current_files(work: Workspace, origin: Origin) -> Files | None:
    """The files of a local origin of the project as they are now."""
    step = work.graph.steps[origin.name]
    assert isinstance(step, Local)
    return leaves.of_place(step.path)


def as_value(answer: Answer) -> Mapping[str, object]:
    """The answer as JSON."""
    return {
        "target": answer.target,
        "since": answer.since,
        "derivation": answer.derivation,
        "state": answer.state,
        "changes": [change_value(each) for each in answer.changes],
    }


def change_value(change: Change) -> Mapping[str, object]:
    return {
        "kind": change.kind,
        "step": change.step,
        "leaf": change.leaf,
        "what": change.what,
        "old": change.old,
        "new": change.new,
        "line": change.line,
    }
