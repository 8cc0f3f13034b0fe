"""The project whose stores are killed, filled up and damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.tiny import Tiny, make


@pytest.fixture
def tiny(memory: Path, tool: Callable[[str], str]) -> Tiny:
    """The project, and a store that is not made yet."""
    return make(memory / "project", memory / "store", tool("busybox"))
