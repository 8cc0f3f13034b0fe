"""Every kind of cache, behind the one port; stores with something in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ccstore.cache.folder import FolderCache
from ccstore.cache.open import open_cache
from ccstore.cache.web import WebCache
from ccstore.codec.signing import SecretKey
from ccstore.ports import BinaryCache, Cancel
from ccstore.store.store import Store
from ccstore.transfer.patience import Patience
from tests.cluster.casd import own_casd
from tests.nginx import PUT, Site, needs_nginx, serving

HASTY = Patience(attempts=2, first_pause=0.01, longest_pause=0.05, connect_timeout=2.0)
KINDS = ["folder", pytest.param("nginx", marks=needs_nginx)]
EVERY_KIND = [*KINDS, "service"]


@dataclass
class Place:
    """A cache that can be opened, and the folder in which its files lie, unless it is a service."""

    url: str
    folder: Path
    open: Callable[[Cancel], BinaryCache]
    site: Site | None = None


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """An empty cache of each kind."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NETRC", "/dev/null")
    if request.param == "folder":
        folder = tmp_path / "cache"
        yield Place(folder.as_uri(), folder, lambda cancel: FolderCache(folder))
        return
    if request.param == "service":
        with own_casd(request.getfixturevalue("tool")) as url:
            yield Place(url, tmp_path / "nothing", lambda cancel: open_cache(url, cancel))
        return
    (tmp_path / "web").mkdir()
    with serving(tmp_path / "web", PUT) as site:
        yield Place(site.url, site.folder, lambda cancel: WebCache(site.url, cancel, HASTY), site)


@pytest.fixture
def cache(place: Place) -> Iterator[BinaryCache]:
    opened = place.open(Cancel())
    yield opened
    opened.close()


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """One to push from and one to pull into."""
    with Store.open(tmp_path / "from") as one, Store.open(tmp_path / "into") as other:
        yield one, other


@pytest.fixture(scope="session")
def key() -> SecretKey:
    return SecretKey.generate("cache.example.org-1")
