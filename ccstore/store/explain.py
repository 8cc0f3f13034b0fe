"""What keeps an object alive, as a collection sees it: roots, by the realisations that lead to it, and sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ccstore.model.realisation import OutputId
from ccstore.model.storepath import StorePath
from ccstore.store import temproots
from ccstore.store.database import Fact
from ccstore.store.failures import explained
from ccstore.store.locks import Holder
from ccstore.store.objects import not_found
from ccstore.store.roots import Root
from ccstore.store.store import Store


@dataclass(frozen=True, slots=True)
class Keeper:
    """Either a root or a session of a process (None if it does not say which).

    `chain` leads from the root's realisation to one that gave the object, each made from the next; it is empty for
    a root that names the object alone. Inputs, all that is not the chain's first, are kept by `keep_inputs` only.
    """

    root: Root | None = None
    session: str | None = None
    process: Holder | None = None
    chain: tuple[Fact, ...] = ()


def keepers(store: Store, path: StorePath) -> list[Keeper]:
    """What keeps `path`; nothing: the next collection deletes it. Raises `not-found` if it is not registered."""
    if store.database.object(path) is None:
        raise not_found(path)
    facts = store.database.facts()
    found = []
    for root in store.roots.list():
        chain = _chain(facts, root.realisation, path.base) if root.realisation else ()
        if chain or root.path == path:
            found.append(Keeper(root=root, chain=chain))
    return found + _sessions(store, path.base)


def _sessions(store: Store, base: str) -> list[Keeper]:
    if not store.writable:
        return []  # nor can anybody else add to it from here
    with explained(store.root), store.gc_lock.exclusive():
        living = temproots.living(store.layout.temproots)
    return [
        Keeper(session=name, process=each.holder)
        for name, each in sorted(living.items())
        if base in each.names
    ]


def _chain(facts: Mapping[OutputId, Fact], start: OutputId, base: str) -> tuple[Fact, ...]:
    """The shortest way from `start` to a realisation whose object is `base`; nothing if there is none."""
    came: dict[OutputId, OutputId | None] = {start: None}
    waiting = [start]
    for each in waiting:  # grows on the way: nearer ones come first
        fact = facts.get(each)
        if fact is None:
            continue
        if fact.base == base:
            return _way(facts, came, each)
        for following in fact.inputs:
            if following not in came:
                came[following] = each
                waiting.append(following)
    return ()


def _way(
    facts: Mapping[OutputId, Fact], came: Mapping[OutputId, OutputId | None], end: OutputId
) -> tuple[Fact, ...]:
    way: list[Fact] = []
    each: OutputId | None = end
    while each is not None:
        way.insert(0, facts[each])
        each = came[each]
    return tuple(way)
