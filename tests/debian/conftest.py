"""The pinned apt, fetched from a Debian mirror once in a test run."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from ccstore.debian.unpack import debian_tree
from ccstore.errors import CcError
from ccstore.events import ignore
from ccstore.fetch.fetch import fetch
from ccstore.fetch.mirrors import Mirrors
from ccstore.model.graph import Build, Fetch
from ccstore.ports import Cancel, Tree
from ccstore.recipe.lower import lower
from ccstore.recipe.project import load_project
from tests.debian.debs import Downloaded

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def mirrors() -> Mirrors:
    """This machine's mirrors."""
    return Mirrors.from_host(os.environ, {}, {})


@pytest.fixture(scope="session")
def apt(mirrors: Mirrors, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The tree of recipe `apt`. Skips the tests that need it if no mirror is reachable."""
    folder = tmp_path_factory.mktemp("apt")
    graph = lower(load_project(REPOSITORY))
    build = graph.steps["apt"]
    assert isinstance(build, Build)
    download = partial(_download, mirrors=mirrors, folder=folder)
    found = {name: graph.steps[ref.step] for name, ref in build.inputs.items()}
    steps = {name: step for name, step in found.items() if isinstance(step, Fetch)}
    try:
        with ThreadPoolExecutor(8) as pool:
            files = dict(zip(steps, pool.map(download, steps.values()), strict=True))
    except CcError as error:
        if error.code != "unreachable" or os.environ.get("CCSTORE_REQUIRE_TOOLS"):
            raise
        pytest.skip(f"no Debian mirror is reachable: {error}")
    debian_tree(files, build.files, folder / "tree", Cancel())
    return Downloaded(folder / "tree")


def _download(step: Fetch, mirrors: Mirrors, folder: Path) -> Tree:
    to = folder / step.fixed.name
    fetch(step, to, mirrors=mirrors, partials=folder, scratch=folder, sink=ignore, cancel=Cancel())
    return Downloaded(to)
