"""Where a command finds its project and its store."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccstore.build.locate import find_project, find_store, require_project
from ccstore.errors import CcError
from tests.conftest import write


def test_a_project_is_found_from_below(tmp_path: Path) -> None:
    write(tmp_path / "recipes/ccstore.yml", "")
    below = tmp_path / "kernel" / "config"
    below.mkdir(parents=True)
    assert find_project(str(below)) == str(tmp_path)
    assert find_project(str(tmp_path)) == str(tmp_path)


def test_no_project(tmp_path: Path) -> None:
    assert find_project(str(tmp_path)) is None
    with pytest.raises(CcError) as caught:
        require_project(str(tmp_path))
    assert caught.value.code == "no-project"
    assert "ccstore init" in str(caught.value.hint)


def test_the_store_in_order_of_precedence() -> None:
    environ = {"CCSTORE_STORE": "/env", "XDG_DATA_HOME": "/data"}
    assert find_store("/p", "/option", environ) == "/option"
    assert find_store("/p", None, environ) == "/env"
    assert find_store("/p", None, {"XDG_DATA_HOME": "/data"}) == "/p/store"
    assert find_store(None, None, {"XDG_DATA_HOME": "/data"}) == "/data/ccstore/store"
    assert find_store(None, None, {"HOME": "/home/me"}).endswith("/.local/share/ccstore/store")
