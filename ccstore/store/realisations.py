"""Realisations and the derivations that they are of, as files; the index only helps to find them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ccstore.errors import CcError
from ccstore.model import derivation as derivations
from ccstore.model.derivation import AnyDerivation
from ccstore.model.realisation import OutputId, Realisation
from ccstore.model.storepath import StorePath
from ccstore.ports import Fault, no_fault
from ccstore.store import files, sealed
from ccstore.store.database import Database
from ccstore.store.failures import explained
from ccstore.store.layout import Layout
from ccstore.store.locks import GcLock


class Realisations:
    """The realisations that one store knows."""

    def __init__(self, layout: Layout, database: Database, gc_lock: GcLock) -> None:
        self._layout = layout
        self._database = database
        self._gc_lock = gc_lock

    def get(self, output: OutputId) -> Realisation | None:
        """What `output` was realised to; its object may be gone. Raises `object-damaged` if unreadable."""
        file = self._layout.realisation(output)
        try:
            return read(file)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise _damaged(str(file), f"the realisation cannot be read: {error}") from error

    def record(
        self,
        derivation: AnyDerivation | None,
        realisations: Sequence[Realisation],
        fault: Fault = no_fault,
    ) -> None:
        """Keeps `realisations`, which replace those of the same outputs, and the derivation that they are of.

        All of it survives a power cut once this returns. Without a derivation (facts that came from a cache) only
        the realisations are kept. Raises `read-only-store`, `disk-full`.
        """
        with explained(self._layout.root), self._gc_lock.shared():
            if derivation is not None:
                self._keep_derivation(derivation)
                fault("derivation")
            for each in realisations:
                sealed.write(self._layout.realisation(each.id), each.to_json())
                fault("realisation")
            self._database.add_realisations(realisations)
            fault("record")

    def _keep_derivation(self, derivation: AnyDerivation) -> None:
        data = derivation.encode()
        file = self._layout.derivation(derivation.id)
        if not file.exists() or not _holds(file, data):
            files.write_atomically(file, data)

    def derivation(self, derivation_id: str) -> AnyDerivation | None:
        """The derivation with this id, if it is kept. Raises `object-damaged` if it is not what its id says."""
        file = self._layout.derivation(derivation_id)
        try:
            found = derivations.decode(files.read(file))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise _damaged(str(file), f"the derivation cannot be read: {error}") from error
        if found.id != derivation_id:
            raise _damaged(str(file), f"the derivation's id is really {found.id}")
        return found

    def of_object(self, path: StorePath) -> list[Realisation]:
        """Every realisation that gave this object."""
        found = [self.get(output) for output in self._database.realisations_of(path)]
        return [each for each in found if each is not None]


def read(file: Path) -> Realisation:
    """Raises ValueError if it is damaged or about something else than its name says, and OSError."""
    found = Realisation.from_json(sealed.read(file))
    if file.name != f"{found.id}.json":
        raise ValueError(f"it is about {found.id}")
    return found


def record_files(layout: Layout) -> list[Path]:
    """Every file that should be a realisation."""
    return sorted(file for file in layout.realisations.iterdir() if not file.name.startswith("."))


def _holds(file: Path, data: bytes) -> bool:
    try:
        return files.read(file) == data
    except ValueError:
        return False


def _damaged(where: str, message: str) -> CcError:
    return CcError("object-damaged", message, where=where, hint="run `ccstore verify --repair`")
