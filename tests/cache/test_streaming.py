"""An object goes to a cache and comes from it in pieces: far less memory than it has bytes, and one can watch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ccstore.model.objects import ObjectInfo
from ccstore.store.files import remove
from ccstore.store.store import Store
from tests.cache.conftest import Place
from tests.store.samples import python

MEGABYTE = 1 << 20
SIZE = 200 * MEGABYTE
MOST = SIZE // 2  # Python and all that is imported take some 50 MB

# VmHWM, because ru_maxrss begins with what the process had that this one was forked from
COMMON = """
import re, sys
from pathlib import Path
from ccstore.build.pulling import pull
from ccstore.build.sharing import PushOptions, push
from ccstore.cache.pack import Packing
from ccstore.cache.source import Source
from ccstore.cache.sources import Sources
from ccstore.codec.signing import SecretKey
from ccstore.events import Progressed
from ccstore.model.storepath import StorePath
from ccstore.ports import Cancel
from ccstore.store.store import Store

root, url, path = Path(sys.argv[1]), sys.argv[2], StorePath.parse(sys.argv[3])
done = []

def sink(event):
    if isinstance(event, Progressed):
        done.append(event.done)

def report():
    [peak] = re.findall(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
    print(1024 * int(peak), len(set(done)), max(done))
"""
PUSH = f"""{COMMON}
options = PushOptions(packing=Packing("none"))
with Store.open(root) as store:
    push(store, url, SecretKey.generate("k-1"), [], [path], options=options, sink=sink)
report()
"""
PULL = f"""{COMMON}
with Store.open(root) as store, Sources([Source(url)], sink, Cancel()) as sources:
    pull(store, sources, [path], sink)
report()
"""


@pytest.fixture
def large(tmp_path: Path) -> Iterator[ObjectInfo]:
    """An object of zeros, in the store `from`."""
    with (tmp_path / "zeros").open("wb") as file:
        file.truncate(SIZE)
    with Store.open(tmp_path / "from") as store, store.session() as session:
        yield session.add(tmp_path / "zeros", "large")
    for name in ("from", "into"):
        remove(tmp_path / name)


def test_a_large_object_takes_little_memory(place: Place, large: ObjectInfo, tmp_path: Path) -> None:
    for script, store in ((PUSH, "from"), (PULL, "into")):
        done = python(script, str(tmp_path / store), place.url, str(large.path))
        assert done.returncode == 0, done.stderr
        peak, reports, most = map(int, done.stdout.split())
        assert peak < MOST, script
        assert reports > 1, script
        assert SIZE <= most <= large.nar_size, script
    with Store.open(tmp_path / "into") as other:
        assert other.objects.info(large.path) == large
