"""Getting objects from caches by their store path, which says what they must contain: no signature is needed."""

from __future__ import annotations

from collections.abc import Sequence

from ccstore.build.substitute import not_there, receive
from ccstore.cache.parallel import OBJECTS, each
from ccstore.cache.problems import MISSES
from ccstore.cache.source import Source
from ccstore.cache.sources import Sources
from ccstore.errors import CcError
from ccstore.events import Sink, ignore
from ccstore.model.storepath import StorePath
from ccstore.ports import Cancel, Fault, no_fault
from ccstore.store.store import Store


def pull(
    store: Store,
    sources: Sources,
    paths: Sequence[StorePath],
    sink: Sink = ignore,
    cancel: Cancel | None = None,
    damaged: set[StorePath] | None = None,
    fault: Fault = no_fault,
) -> None:
    """Gets the objects that are not here, and those of `damaged`, which leave that set; the first failure ends it.

    Raises `not-found`, or what was wrong with the caches.
    """
    stop = cancel or Cancel()
    hurt = set() if damaged is None else damaged
    with store.session() as session:

        def get(path: StorePath) -> None:
            session.protect(path)
            if path not in hurt and store.objects.has(path):
                return
            info = sources.object_info(path)
            with store.locks.object(path, lambda holder: None, stop):
                if info is None or not receive(
                    sources, info, path.name, store, session, sink, stop, hurt, fault
                ):
                    raise not_there(str(path), sources)

        each(OBJECTS, get, list(dict.fromkeys(paths)), stop)


def restore(
    store: Store, caches: Sequence[Source], damaged: set[StorePath], sink: Sink, fault: Fault = no_fault
) -> None:
    """Gets what caches have of `damaged` objects; those leave the set."""
    if not (caches and damaged):
        return
    cancel = Cancel()
    with Sources(caches, sink, cancel) as sources:
        for path in sorted(damaged):
            try:
                pull(store, sources, [path], sink, cancel, damaged, fault)
            except CcError as error:
                if error.code not in MISSES:
                    raise
