"""Collections of a synthetic store: what stays is what the files by themselves say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccstore.model.realisation import OutputId
from ccstore.store import gc, realisations, verify
from ccstore.store.files import remove
from ccstore.store.gc import GcOptions
from ccstore.store.store import Store
from tests import scale
from tests.scale import Size
from tests.store.samples import listing

SMALL = Size(1000, 200, 5)


def expected(store: Store, *, keep_inputs: bool) -> tuple[set[str], set[OutputId]]:
    """Base names of objects and realisations that must stay, by the files alone."""
    files = (realisations.read(file) for file in realisations.record_files(store.layout))
    known = {each.id: each for each in files}

    def closure(start: set[OutputId]) -> set[OutputId]:
        found: set[OutputId] = set()
        while start - found:
            found |= start
            start = {each for name in start for each in known[name].inputs}
        return found

    roots = store.roots.list()
    needed = closure({root.realisation for root in roots if root.realisation})
    live = {root.path.base for root in roots}
    if keep_inputs:
        live |= {known[each].object.path.base for each in needed}
    needed |= closure({each for each, found in known.items() if found.object.path.base in live})
    derivations = {each.derivation for each in needed}
    return live, {each for each in known if each.derivation in derivations}


@pytest.mark.parametrize("keep_inputs", [True, False])
def test_a_collection_keeps_what_it_must_and_nothing_else(keep_inputs: bool, tmp_path: Path) -> None:
    scale.make(tmp_path / "store", SMALL)
    with Store.open(tmp_path / "store") as store:
        assert verify.verify(store, full=True) == []
        live, records = expected(store, keep_inputs=keep_inputs)
        assert 0 < len(live) < SMALL.objects
        assert 0 < len(records) < SMALL.objects
        planned = gc.collect(store, GcOptions(dry_run=True, keep_inputs=keep_inputs))
        done = gc.collect(store, GcOptions(keep_inputs=keep_inputs))
        assert planned == done
        assert (len(done.deleted), done.kept) == (SMALL.objects - len(live), len(live))
        assert done.realisations == SMALL.objects - len(records)
        assert set(listing(store.layout.objects)) == set(listing(store.layout.manifests)) == live
        assert set(listing(store.layout.realisations)) == {f"{each}.json" for each in records}
        assert set(listing(store.layout.derivations)) == {each.derivation for each in records}
        assert verify.verify(store, full=True) == []
        assert gc.collect(store, GcOptions(keep_inputs=keep_inputs)).deleted == ()
    remove(tmp_path / "store")
