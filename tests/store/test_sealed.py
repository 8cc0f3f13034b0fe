"""Small records know whether they are what was written: no bit of them can change unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.model.realisation import Realisation
from ccstore.store import realisations, roots, sealed
from ccstore.store.store import Store
from tests.store.samples import realise


@pytest.fixture
def realisation(store: Store) -> Realisation:
    with store.session() as session:
        first = realise(store, session, "first")
        found = realise(store, session, "second", first)
        store.roots.add("p/second", found.object.path, found.id)
    return found


def damages(data: bytes) -> list[bytes]:
    """Every flipped bit and every length that is too short."""
    flipped = [
        data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
        for at in range(len(data))
        for bit in range(8)
    ]
    return flipped + [data[:size] for size in range(len(data))]


def test_no_bit_of_a_realisation_changes_unseen(store: Store, realisation: Realisation) -> None:
    file = store.layout.realisation(realisation.id)
    assert realisations.read(file) == realisation
    for damaged in damages(file.read_bytes()):
        file.write_bytes(damaged)
        with pytest.raises(ValueError):
            realisations.read(file)


def test_no_bit_of_a_root_changes_unseen(store: Store, realisation: Realisation) -> None:
    file = store.layout.roots / "p/second"
    assert roots.read(file).realisation == realisation.id
    for damaged in damages(file.read_bytes()):
        file.write_bytes(damaged)
        with pytest.raises(CcError) as caught:
            roots.read(file)
        assert caught.value.code == "store-unusable"


def test_a_record_of_an_older_version_has_no_seal(tmp_path: Path) -> None:
    (tmp_path / "record").write_text('{"format":1,"purity":"clean"}\n')
    assert sealed.read(tmp_path / "record") == '{"format":1,"purity":"clean"}\n'
    sealed.write(tmp_path / "record", '{"format":1}')
    assert sealed.read(tmp_path / "record") == '{"format":1}'
