"""Two hundred corruptions, from a fixed seed: `verify --full` finds each, and what is wrong is named.

Plain `verify` finds the same here: it reads every byte too, and only a forger knows how to keep a checksum. All of
it can be undone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccstore.build.repair import repair
from ccstore.build.workspace import Workspace
from ccstore.codec.signing import SecretKey
from ccstore.errors import CcError
from ccstore.events import Event, Started, ignore
from ccstore.store.damage import Damage
from ccstore.store.layout import Layout
from ccstore.store.store import Store
from ccstore.store.verify import verify
from tests.crash.corruption import CLASSES, Class, rewrite
from tests.crash.tiny import Tiny, strays

COUNT = 200


@pytest.fixture
def made(tiny: Tiny) -> Tiny:
    tiny.realize()
    assert tiny.verify() == []
    return tiny


def corruptions(made: Tiny, folder: Path) -> Iterator[tuple[Class, Path, Tiny]]:
    """Copies of the store with one corruption each, in turn of every class: the class, the file and the copy."""
    source = random.Random(4)
    for number in range(COUNT):
        each = CLASSES[number % len(CLASSES)]
        hurt = made.with_store(folder / str(number))
        yield each, each.damage(Layout(hurt.store), source), hurt


def found_in(store: Path, full: bool) -> list[Damage]:
    """What `verify` finds; an index that cannot be opened is found by whoever tries."""
    try:
        with Store.open(store) as opened:
            return [each for each in verify(opened, full) if each.hurts]
    except CcError as error:
        if error.code != "store-unusable":
            raise
        return [Damage("index", Layout(store).index, error.message)]


def test_every_corruption_is_found(made: Tiny, memory: Path, full: bool) -> None:
    counted: Counter[str] = Counter()
    for number, (kind, file, hurt) in enumerate(corruptions(made, memory)):
        for thorough in (False, True):
            if kind.name == "database lost":  # whoever opened the store made a new one
                file.unlink(missing_ok=True)
            found = found_in(hurt.store, thorough)
            assert {each.kind for each in found} & kind.kinds, (number, kind.name, file, found)
            if kind.kinds != {"index"}:
                assert file in {each.file for each in found}, (number, kind.name, file, found)
        counted[kind.name] += 1
    assert sum(counted.values()) == COUNT
    for name, count in counted.items():
        print(f"{name}: {count} of {count}")


def mended(hurt: Tiny) -> list[Damage]:
    """What `verify --full --repair` does, and what is left."""
    with Store.open_sound(hurt.store) as store:
        found = verify(store, full=True)
    with Workspace.open(hurt.root, hurt.store) as work:
        return [each for each in repair(work, found, full=True, sink=ignore) if each.hurts]


def test_every_corruption_can_be_repaired(made: Tiny, memory: Path, full: bool) -> None:
    """By rebuilding and comparing, where the store cannot do it by itself; strangers are for `gc` to remove."""
    answers = made.realize()
    for number, (kind, _, hurt) in enumerate(corruptions(made, memory)):
        if not full and number >= len(CLASSES):
            break
        left = mended(hurt)
        assert {each.kind for each in left} == {"stray"} & kind.kinds, (number, kind.name, left)
        with Store.open(hurt.store) as store:
            assert {each.path.base for each in store.roots.list()} == set(answers), (number, kind.name)
        hurt.collect()
        assert hurt.verify() == [], (number, kind.name)
        assert strays(hurt.store) == [], (number, kind.name)
        assert hurt.realize() == answers, (number, kind.name)


def test_each_realisation_that_is_lost_is_made_again(made: Tiny, memory: Path) -> None:
    """Also that of a local file, of which there is a root."""
    for number, lost in enumerate(sorted(Layout(made.store).realisations.iterdir())):
        hurt = made.with_store(memory / str(number))
        (Layout(hurt.store).realisations / lost.name).unlink()
        assert mended(hurt) == [], lost.name
        assert (Layout(hurt.store).realisations / lost.name).exists()


def test_what_is_damaged_comes_back_from_a_cache(made: Tiny, memory: Path) -> None:
    """What can be built no more, for its download is gone from the network."""
    key = SecretKey.generate("tests-1")
    made.push(memory / "cache", key)
    made.trust(memory / "cache", key)
    (made.root / "file").unlink()
    layout = Layout(made.store)
    [file] = layout.objects.glob("*-file")
    rewrite(file, b"damaged")
    for object_ in layout.objects.glob("*-changed"):
        rewrite(object_ / "text", b"damaged")
    assert {each.kind for each in made.verify()} == {"content"}
    events: list[Event] = []
    with Workspace.open(made.root, made.store) as work:
        assert repair(work, verify(work.store, full=True), full=True, sink=events.append) == []
    fetched = {each.target for each in events if isinstance(each, Started) and each.work == "substitute"}
    assert {"file", "changed"} <= fetched
    assert made.verify() == []


def test_one_damage_hides_no_other(made: Tiny, memory: Path) -> None:
    """All classes at once, but for those that take away what others damaged."""
    source = random.Random(5)
    layout = Layout(made.store)
    classes = [each for each in CLASSES if not each.kinds & {"index", "missing"}]
    hurt = [each.damage(layout, source) for each in classes]
    found = found_in(made.store, full=True)
    objects = {layout.object(each.path) for each in found if each.path}
    for kind, file in zip(classes, hurt, strict=True):
        named = {each.file for each in found} | objects
        assert named.intersection((file, *file.parents)), (kind.name, file)
    mended(made)
    made.collect()
    assert made.verify() == []
