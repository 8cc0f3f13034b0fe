"""What checks found: `checks/<derivation id>^<output>.json`, beside the realisation that was built again.

A sealed JSON object (sealed.py): `format`, `id` and `rebuilds`, the oldest first, each with `when` (unix), `narHash`
(SRI) and `varied` (names of the conditions that were otherwise). Whether an output was reproduced follows from the
realisation as it is now: a rebuild counts for the content that it gave. The file goes with its realisation (gc.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ccstore.model.hashes import Sha256
from ccstore.model.realisation import OutputId, Realisation
from ccstore.store import locks, sealed
from ccstore.store.failures import explained
from ccstore.store.layout import Layout
from ccstore.store.locks import GcLock

FORMAT = 1
_KEPT = 1000  # rebuilds of one output; older ones are forgotten


@dataclass(frozen=True, slots=True)
class Rebuild:
    """An output that was built again, under conditions of which `varied` were otherwise."""

    when: int
    nar_hash: Sha256
    varied: tuple[str, ...]


class Checks:
    """The checks that one store remembers."""

    def __init__(self, layout: Layout, gc_lock: GcLock) -> None:
        self._layout = layout
        self._gc_lock = gc_lock

    def record(self, output: OutputId, rebuilds: Sequence[Rebuild]) -> None:
        """Adds `rebuilds` to what is known of `output`; nothing if its realisation was collected meanwhile.

        Survives a power cut once this returns. Raises `read-only-store`, `disk-full`.
        """
        layout = self._layout
        with (
            explained(layout.root),
            locks.removable(layout.locks / f"check-{output}"),
            self._gc_lock.shared(),
        ):
            if layout.realisation(output).exists():
                known = [*self.rebuilds(output), *rebuilds][-_KEPT:]
                sealed.write(layout.check(output), _encode(output, known))

    def rebuilds(self, output: OutputId) -> list[Rebuild]:
        """The oldest first; none for a file that cannot be read, which `verify` reports."""
        try:
            return self.read(output)
        except (FileNotFoundError, ValueError):
            return []

    def read(self, output: OutputId) -> list[Rebuild]:
        """Raises ValueError for a file that is no such record, and FileNotFoundError."""
        return _decode(output, sealed.read(self._layout.check(output)))

    def reproduced(self, realisation: Realisation) -> int:
        """How often the output was built again to the same bytes."""
        return sum(each.nar_hash == realisation.object.nar_hash for each in self.rebuilds(realisation.id))

    def differed(self, realisation: Realisation) -> int:
        """How often something else came out."""
        return len(self.rebuilds(realisation.id)) - self.reproduced(realisation)


def _encode(output: OutputId, rebuilds: Sequence[Rebuild]) -> str:
    values = [
        {"when": each.when, "narHash": each.nar_hash.sri, "varied": list(each.varied)} for each in rebuilds
    ]
    return json.dumps({"format": FORMAT, "id": str(output), "rebuilds": values})


def _decode(output: OutputId, data: str) -> list[Rebuild]:
    try:
        value: dict[str, Any] = json.loads(data)
        if value["format"] != FORMAT or value["id"] != str(output):
            raise ValueError("it is of another format, or about another output")
        return [
            Rebuild(int(each["when"]), Sha256.parse(each["narHash"]), tuple(map(str, each["varied"])))
            for each in value["rebuilds"]
        ]
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"no record of checks: {error!r}") from error
