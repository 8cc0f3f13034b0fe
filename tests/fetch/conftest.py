from __future__ import annotations

from pathlib import Path

import pytest

from tests.fetch.bench import Bench
from tests.images import docker_host as docker_host
from tests.images import served as served


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return Bench(tmp_path)
