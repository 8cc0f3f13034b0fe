"""Where stores are killed: in memory, for a kill -9 leaves the page cache alone and syncing would only take time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ccstore.store.files import remove
from tests.crash.tiny import Tiny, make


@pytest.fixture
def memory() -> Iterator[Path]:
    """An empty folder, on a file system that is in memory where there is one."""
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="ccstore-test-", dir=shm if shm.is_dir() else None))
    yield folder
    remove(folder)


@pytest.fixture
def tiny(memory: Path, tool: Callable[[str], str]) -> Tiny:
    """The project, and a store that is not made yet."""
    return make(memory / "project", memory / "store", tool("busybox"))
