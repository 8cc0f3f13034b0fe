"""What is known of realisations in one run: by the store itself, and by caches.

A realisation that came from a cache counts in the store only while one of the keys that signed it is trusted here: a
key that is taken out of the configuration takes with it what it vouched for, and a project does not inherit what
another one, with other keys, took into a store that they share. What came unsigned, from a cache that is itself
trusted, counts while there is such a cache. What caches say is kept in the store once the run has its objects, in one
go: until then a collection might take it for dead. It may do so with what the store knew as well: a fact that no root
leads to yet is written down again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import TypeVar

from ccstore.build.resolve import Outputs, known_outputs
from ccstore.cache.sources import Sources
from ccstore.codec.signing import PublicKey, trusted
from ccstore.model.derivation import AnyDerivation
from ccstore.model.realisation import OutputId, Purity, Realisation
from ccstore.store.store import Store

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class Knowledge:
    """Made for one run; `sources` None: no cache is asked. Nothing counts that is less pure than `accepts`; what came
    unsigned counts if `unsigned`."""

    def __init__(
        self,
        store: Store,
        keys: Iterable[PublicKey],
        sources: Sources | None = None,
        accepts: Purity = "assisted",
        unsigned: bool = False,
    ) -> None:
        self._store = store
        self._accepts = accepts
        self._keys = tuple(keys)
        self.sources = sources
        self._unsigned = unsigned
        self._used: dict[str, tuple[AnyDerivation, Outputs]] = {}
        self._lock = Lock()

    def local(self, output: OutputId) -> Realisation | None:
        """What the store knows and this project may believe."""
        known = self._store.realisations.get(output)
        if (
            known is None
            or known.origin == "built"
            or (self._unsigned and not known.signatures)
            or trusted(known.signatures, self._keys, known.statement())
        ):
            return known
        return None

    def outputs(self, derivation: AnyDerivation) -> Outputs:
        """What `derivation` gave as far as the store knows: all of it or nothing."""
        return self._noted(derivation, known_outputs(derivation, self.local, self._accepts))

    def ask(self, derivation: AnyDerivation, label: str) -> Outputs:
        """What caches say that `derivation` gave: all of it or nothing."""
        sources = self.sources
        if sources is None:
            return {}
        return self._noted(
            derivation, known_outputs(derivation, lambda output: sources.realisation(output, label))
        )

    def _noted(self, derivation: AnyDerivation, found: Outputs) -> Outputs:
        if found:
            with self._lock:
                self._used[derivation.id] = (derivation, found)
        return found

    def keep(self) -> None:
        """Writes to the store what the run went by and is not there: from caches, or collected meanwhile.

        To be called under the shared `gc.lock`, which is held until a root leads there.
        """
        for derivation, outputs in self._used.values():
            missing = [each for each in outputs.values() if self.local(each.id) is None]
            if missing:
                self._store.realisations.record(derivation, missing)


def in_waves(
    compute: Callable[[Callable[[K], V | None]], T], ask: Callable[[list[K]], Mapping[K, V | None]]
) -> T:
    """The result of `compute`, which looks things up by a function; whatever it does not find is asked for, many at
    once, and then it is computed anew, until there is nothing more to ask."""
    answers: dict[K, V | None] = {}
    while True:
        unknown: dict[K, None] = {}

        def look_up(key: K, unknown: dict[K, None] = unknown) -> V | None:
            if key not in answers:
                unknown[key] = None
            return answers.get(key)

        result = compute(look_up)
        if not unknown:
            return result
        answers.update(ask(list(unknown)))
