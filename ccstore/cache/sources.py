"""The caches that are asked, in order of priority, and what is believed of what they say.

A realisation counts if it is clean and one of the cache's own keys has signed it, or the cache itself is trusted. An
object needs no signature: it is
wanted by the hash of its content. Whatever is wrong with a cache or with one of its entries is reported once and is a
miss; a cache that does not answer is not asked again. Nothing is remembered beyond the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from threading import RLock
from typing import TypeVar

from ccstore.cache import entries
from ccstore.cache.open import open_cache
from ccstore.cache.problems import HOPELESS, MISSES
from ccstore.cache.source import Source
from ccstore.codec.narinfo import NarInfo
from ccstore.codec.signing import trusted
from ccstore.errors import CcError
from ccstore.events import Noted, Sink
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import OutputId, Realisation
from ccstore.model.storepath import StorePath
from ccstore.ports import BinaryCache, Cancel

AT_ONCE = 8
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Opened:
    """A cache that answers."""

    source: Source
    cache: BinaryCache
    info: entries.CacheInfo


@dataclass(frozen=True, slots=True)
class Offer:
    """An object that a cache says it has."""

    cache: BinaryCache
    found: NarInfo


class Sources:
    """The caches of one run; a context manager that closes them. Threads may share it."""

    def __init__(self, sources: Sequence[Source], sink: Sink, cancel: Cancel) -> None:
        self._sources = sources
        self._sink = sink
        self._cancel = cancel
        self._lock = RLock()
        self._opened: list[Opened] | None = None
        self._gone: set[str] = set()
        self._noted: set[str] = set()
        self._realisations: dict[OutputId, Realisation | None] = {}
        self._offers: dict[tuple[str, StorePath], NarInfo | None] = {}
        self.problems: list[CcError] = []

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._opened or ():
            each.cache.close()

    def opened(self) -> list[Opened]:
        """The caches that answer, the first to ask coming first."""
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return [each for each in self._opened if each.cache.url not in self._gone]

    def _open(self) -> list[Opened]:
        found = []
        for source in self._sources:
            cache = open_cache(source.url, self._cancel, source.service)
            info = self._attempt(cache, partial(entries.require_cache, cache), "")
            if info:
                found.append(Opened(source, cache, info))
            else:
                cache.close()
        return sorted(found, key=_priority)

    def realisation(self, output: OutputId, label: str = "") -> Realisation | None:
        """What a cache that is to be believed says that `output` gave."""
        with self._lock:
            if output in self._realisations:
                return self._realisations[output]
        found = next(filter(None, (self._believed(each, output, label) for each in self.opened())), None)
        with self._lock:
            return self._realisations.setdefault(output, found)

    def _believed(self, opened: Opened, output: OutputId, label: str) -> Realisation | None:
        if not opened.source.keys and not opened.source.trusted:
            return None
        cache = opened.cache
        said = self._attempt(cache, lambda: entries.read_statements(cache, output), label)
        clean = [each for each in said or () if each.purity == "clean"]
        for each in clean:
            if trusted(each.signatures, opened.source.keys, each.statement()):
                return each
        if clean and opened.source.trusted:
            return replace(
                clean[-1], signatures=()
            )  # so that it counts for as long as such a cache is trusted
        if clean:
            self.failed(cache, unsigned(opened, clean), label)
        return None

    def realisations(self, outputs: Iterable[OutputId]) -> dict[OutputId, Realisation | None]:
        """The same for many, asked at once."""
        return _at_once(self.realisation, list(outputs))

    def offers(self, wanted: ObjectInfo, label: str = "") -> Iterator[Offer]:
        """Who says to have the object, the first to ask coming first."""
        for each in self.opened():
            found = self._narinfo(each.cache, wanted, label)
            if found and each.cache.url not in self._gone:
                yield Offer(each.cache, found)

    def _narinfo(self, cache: BinaryCache, wanted: ObjectInfo, label: str) -> NarInfo | None:
        key = (cache.url, wanted.path)
        with self._lock:
            if key in self._offers:
                return self._offers[key]

        def ask() -> NarInfo | None:
            found = entries.read_narinfo(cache, wanted.path)
            if found:
                entries.check_object(cache, found, wanted)
            return found

        answer = self._attempt(cache, ask, label)
        with self._lock:
            return self._offers.setdefault(key, answer)

    def available(self, wanted: Iterable[ObjectInfo]) -> dict[ObjectInfo, Offer | None]:
        """The first offer for each of many objects, asked at once."""
        return _at_once(lambda info: next(self.offers(info), None), list(wanted))

    def object_info(self, path: StorePath) -> ObjectInfo | None:
        """What the first cache that knows `path` says of its content; its name proves it right or wrong."""
        for each in self.opened():
            cache = each.cache
            found = self._attempt(cache, partial(entries.read_narinfo, cache, path), path.name)
            if found and not found.is_content_addressed:
                with self._lock:
                    self._offers[cache.url, path] = None
                self.failed(cache, _foreign(cache, path), path.name)
            elif found:
                return found.object
        return None

    def _attempt(self, cache: BinaryCache, ask: Callable[[], V], label: str) -> V | None:
        try:
            return ask()
        except CcError as error:
            if error.code not in MISSES:
                raise
            self.failed(cache, error, label)
            return None

    def failed(self, cache: BinaryCache, error: CcError, label: str) -> None:
        """Reports what is wrong with a cache or an entry, once; a cache that is of no use is not asked again."""
        with self._lock:
            if cache.url in self._gone:
                return
            self.problems.append(error)
            if error.code in HOPELESS:
                self._gone.add(cache.url)
            what = f"{error.where or cache.url}: {error.message}"
            message = "; ".join(filter(None, (what, *error.details, error.hint)))
            if message in self._noted:
                return
            self._noted.add(message)
        self._sink(Noted(f"{message} [{error.code}]", label or None, warning=True))


def _priority(opened: Opened) -> int:
    for each in (opened.source.priority, opened.info.priority):
        if each is not None:
            return each
    return entries.DEFAULT_PRIORITY


def _at_once(ask: Callable[[K], V], things: list[K]) -> dict[K, V]:
    if len(things) < 2:
        return {thing: ask(thing) for thing in things}
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="caches") as threads:
        return dict(zip(things, threads.map(ask, things), strict=True))


def unsigned(opened: Opened, said: Sequence[Realisation]) -> CcError:
    """No key that is trusted has signed any of what a cache says of one output."""
    wanted = sorted({str(key) for key in opened.source.keys})
    names = {key.name for key in opened.source.keys}
    found = sorted({each.name for one in said for each in one.signatures})
    false = [name for name in found if name in names]
    details = [
        f"wanted a signature by {', '.join(wanted)}",
        f"found signatures by {', '.join(found) or 'nobody'}",
    ]
    if false:
        details.append(
            f"that of {', '.join(false)} is not true: the entry was changed, or another key has this name"
        )
    return CcError(
        "signature-invalid",
        "what it says is not signed by a key that is trusted",
        where=opened.cache.url,
        details=tuple(details),
        hint="if you trust who signed, add their public key to `keys` of this cache in the configuration",
    )


def _foreign(cache: BinaryCache, path: StorePath) -> CcError:
    return CcError(
        "cache-invalid",
        f"{path} does not have its name from its content alone, so it cannot be an object of this store",
        where=cache.url,
        hint="only objects without references that were added by their content (`nix store add-path`) can be",
    )
