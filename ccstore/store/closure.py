"""Closures: what follows from a realisation through the realisations that it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ccstore.model.realisation import OutputId
from ccstore.store.database import Fact


def closure(facts: Mapping[OutputId, Fact], start: Iterable[OutputId]) -> set[OutputId]:
    """`start` and everything behind it, as far as it is known here."""
    found: set[OutputId] = set()
    waiting = list(start)
    while waiting:
        each = waiting.pop()
        if each in facts and each not in found:
            found.add(each)
            waiting += facts[each].inputs
    return found
