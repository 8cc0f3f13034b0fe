"""Which service builds go to, and what it is told of us."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccstore.build.workspace import Workspace
from ccstore.errors import CcError
from tests.conftest import write

CONFIGURATION = """
remote:
  url: grpcs://ours.example.org:443
  instance: main
  headers: {x-team: kernels}
  token: token
  ca: ca.pem
  cert: we.pem
  key: we.key
  image: docker://registry.example.org/empty:1
"""


def workspace(folder: Path, configuration: str) -> Workspace:
    write(folder / "recipes/ccstore.yml", configuration)
    return Workspace.open(folder, folder / "store")


def test_the_one_that_is_configured_is_told_who_we_are(tmp_path: Path) -> None:
    with workspace(tmp_path, CONFIGURATION) as work:
        ours = work.remote()
        assert (ours.instance, ours.headers) == ("main", {"x-team": "kernels"})
        assert ours.image == "docker://registry.example.org/empty:1"
        assert ours.token is not None
        assert ours.cert is not None
        assert work.remote(ours.url) == ours


def test_another_one_is_not(tmp_path: Path) -> None:
    with workspace(tmp_path, CONFIGURATION) as work:
        other = work.remote("grpcs://theirs.example.org:443")
        assert other.url == "grpcs://theirs.example.org:443"
        assert (other.headers, other.token, other.cert, other.key, other.instance) == (
            None,
            None,
            None,
            None,
            "",
        )
        assert other.image == ""
        assert other.ca == work.remote().ca


def test_without_any_it_says_how_to_name_one(tmp_path: Path) -> None:
    with workspace(tmp_path, "") as work, pytest.raises(CcError) as failed:
        work.remote()
    assert failed.value.code == "usage"
