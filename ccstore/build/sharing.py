"""Pushing what a store has to a cache.

A target goes with the realisations of everything behind it, so that whoever has the same recipes can follow them from
the sources to the target without an object; of the objects only its own, or with `inputs` all that are here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccstore.build.evaluation import Known
from ccstore.cache.open import open_cache
from ccstore.cache.pack import DEFAULT, Packing
from ccstore.cache.push import Parcel, Push, Pushed
from ccstore.codec.rechannel import Remote
from ccstore.codec.signing import SecretKey
from ccstore.errors import CcError
from ccstore.events import Sink, ignore
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import OutputId, Realisation
from ccstore.model.storepath import StorePath
from ccstore.ports import Cancel, Fault, no_fault
from ccstore.store.store import Store


@dataclass(frozen=True, slots=True)
class PushOptions:
    """`inputs`: the objects behind the targets too; `force`: send again what is there."""

    inputs: bool = False
    force: bool = False
    packing: Packing = DEFAULT


def push(
    store: Store,
    url: str,
    key: SecretKey,
    targets: Sequence[Realisation],
    paths: Sequence[StorePath] = (),
    *,
    options: PushOptions | None = None,
    sink: Sink = ignore,
    cancel: Cancel | None = None,
    fault: Fault = no_fault,
    service: Remote | None = None,
) -> list[Pushed]:
    """Pushes the objects of `targets` and `paths`, with what is known of them, signed by `key`.

    The result has the objects of `targets`, then those of `paths`, then others; each once. Raises `not-realised`,
    `not-clean`, and as `ccstore.cache.push.Push`.
    """
    options, cancel = options or PushOptions(), cancel or Cancel()
    for each in targets:
        _require_clean(each)
    behind = closure(store, targets)
    infos = [each.object for each in targets] + [_require(store, path) for path in paths]
    if options.inputs:
        infos += [each.object for each in behind if store.objects.has(each.object.path)]
    cache = open_cache(url, cancel, service)
    try:
        with store.session() as session, session.staging("push") as scratch:
            for info in infos:
                session.protect(info.path)
            parcels = [Parcel(info, _present(store, info)) for info in dict.fromkeys(infos)]
            pushing = Push(cache, key, scratch, sink, cancel, options.packing, options.force, fault)
            return pushing.run(parcels, behind)
    finally:
        cache.close()


def evaluated(store: Store, known: Known) -> Realisation | None:
    """The realisation that the evaluation cache's answer is of; None if it is not what it was then."""
    root = store.roots.get(known.root)
    found = store.realisations.get(root.realisation) if root and root.realisation else None
    return found if found and found.object.path.base == known.base else None


def closure(store: Store, targets: Iterable[Realisation]) -> list[Realisation]:
    """The clean realisations of `targets` and of all behind them, of every output of a derivation, inputs first."""
    found: dict[OutputId, Realisation] = {}
    waiting = [each.id for each in targets]
    while waiting:
        output = waiting.pop()
        if output in found:
            continue
        known = store.realisations.get(output)
        if known is None or known.purity != "clean":
            continue
        found[output] = known
        waiting += known.inputs
        derivation = store.realisations.derivation(output.derivation)
        waiting += [OutputId(output.derivation, name) for name in (derivation.outputs if derivation else ())]
    return list(reversed(found.values()))


def _require_clean(target: Realisation) -> None:
    if target.purity == "clean":
        return
    name = target.object.path.name
    raise CcError(
        "not-clean",
        f"{name} or something behind it was made with what earlier builds left ({target.purity})",
        hint=f"only clean builds are pushed: `ccstore realize --pure {name}` makes it one",
    )


def _require(store: Store, path: StorePath) -> ObjectInfo:
    info = store.objects.info(path)
    if info is None:
        raise CcError("not-found", f"{path} is not in the store", hint="push what is here")
    return info


def _present(store: Store, info: ObjectInfo) -> Path:
    if not store.objects.has(info.path):
        raise CcError("not-realised", f"{info.path} is not here any more", hint="realize it again")
    return store.objects.path(info.path)
