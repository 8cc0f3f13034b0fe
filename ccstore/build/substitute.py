"""Getting one object from the caches that offer it, one after the other, until one gives what is wanted."""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet

from ccstore.cache.problems import MISSES, invalid
from ccstore.cache.receive import received
from ccstore.cache.sources import Offer, Sources
from ccstore.errors import CcError
from ccstore.events import Sink, reported, to_sink
from ccstore.model.objects import ObjectInfo
from ccstore.model.storepath import StorePath
from ccstore.ports import Cancel, Fault, no_fault
from ccstore.store.failures import disk_full
from ccstore.store.session import Session
from ccstore.store.store import Store

_WRONG = frozenset({"nar-invalid", "hash-mismatch", "output-invalid"})


def receive(
    sources: Sources,
    info: ObjectInfo,
    name: str,
    store: Store,
    session: Session,
    sink: Sink,
    cancel: Cancel,
    damaged: set[StorePath],
    fault: Fault = no_fault,
) -> bool:
    """Registers the object; False if no cache has it. What is wrong with one is reported, and the next is asked.

    An object of `damaged` is replaced, and leaves the set. The caller holds the object's lock. Raises `disk-full`,
    `read-only-store`, `interrupted`.
    """
    for offer in sources.offers(info, name):
        _require_room(info, store)
        try:
            with reported(sink, name, "substitute"):
                _receive_one(offer, info, name, store, session, sink, cancel, damaged, fault)
        except CcError as error:
            if error.code not in MISSES:
                raise
            sources.failed(offer.cache, error, name)
            continue
        damaged.discard(info.path)
        return True
    return False


def _receive_one(
    offer: Offer,
    info: ObjectInfo,
    name: str,
    store: Store,
    session: Session,
    sink: Sink,
    cancel: Cancel,
    damaged: AbstractSet[StorePath],
    fault: Fault,
) -> None:
    partials, report = store.layout.partial, to_sink(name, sink)
    with received(offer.cache, offer.found, partials, report, cancel) as stream:
        try:
            session.register_nar(stream, info.path.name, info.nar_hash, replace=damaged, fault=fault)
        except CcError as error:
            if error.code not in _WRONG:
                raise
            raise invalid(offer.cache.url, offer.found.url, error.message) from error


def _require_room(info: ObjectInfo, store: Store) -> None:
    """Raises `disk-full` before anything is fetched that cannot fit."""
    free = os.statvfs(store.layout.objects)
    if info.nar_size > free.f_bavail * free.f_frsize:
        raise disk_full(store.root)


def not_there(name: str, sources: Sources | None) -> CcError:
    """Why caches did not give `name`: what went wrong first, if anything did."""
    problems = sources.problems if sources else []
    for code in ("signature-invalid", "cache-invalid", "auth-needed", "unreachable", "not-a-cache"):
        for problem in problems:
            if problem.code == code:
                return problem
    asked = [each.cache.url for each in sources.opened()] if sources else []
    return CcError(
        "not-found",
        f"no cache has {name}",
        details=tuple(f"asked {url}" for url in asked),
        hint="`ccstore realize` makes what caches do not have; `ccstore cache info` shows them",
    )
