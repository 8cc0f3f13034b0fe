from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ccstore.store.files import remove
from ccstore.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened
    remove(tmp_path / "store")  # objects are read-only, which pytest's own removal does not like
