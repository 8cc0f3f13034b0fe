"""The work of `verify`, shared out among processes or not, finds the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ccstore.store import scrub
from ccstore.store.store import Store
from ccstore.store.verify import verify
from tests.store.samples import register
from tests.store.test_verify import flip

SHARED, ALONE = sys.executable, ("", "/nowhere/python")


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("python", [SHARED, *ALONE])
def test_who_does_the_work_does_not_matter(
    store: Store, monkeypatch: pytest.MonkeyPatch, python: str, full: bool
) -> None:
    with store.session() as session:
        places = [store.objects.path(register(session, text).path) for text in ("one", "two", "three")]
    monkeypatch.setattr(scrub, "LARGE", 0)
    monkeypatch.setattr(sys, "executable", python)
    assert verify(store, full) == []
    flip(places[1] / "data")
    assert [each.file for each in verify(store, full)][:1] == [Path(places[1] / "data")]
