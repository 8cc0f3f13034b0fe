"""Every kind of damage is found, and one does not hide another."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.events import Event, Progressed
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import OutputId
from ccstore.store import gc, scrub, verify
from ccstore.store.files import remove
from ccstore.store.mend import mend
from ccstore.store.store import Store
from tests.store.samples import realise, register


def flip(file: Path) -> None:
    """Another byte, with the size, mode and time of before."""
    status = file.stat()
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.chmod(0o644)
    file.write_bytes(bytes(data))
    file.chmod(status.st_mode & 0o777)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_text(file: Path, text: str) -> None:
    """With the mode of before."""
    mode = file.stat().st_mode & 0o777
    file.chmod(0o644)
    file.write_text(text)
    file.chmod(mode)


def open_up(place: Path) -> Path:
    for folder, _, _ in os.walk(place):
        Path(folder).chmod(0o755)
    return place


def replace_by_folder(place: Path) -> None:
    (open_up(place) / "data").unlink()
    (place / "data").mkdir()


def point_elsewhere(place: Path) -> None:
    (open_up(place) / "link").unlink()
    (place / "link").symlink_to("data")


CONTENT: dict[str, Callable[[Path], object]] = {
    "flipped": lambda place: flip(place / "data"),
    "longer": lambda place: replace_text(place / "data", "hello and more"),
    "gone": lambda place: (open_up(place) / "data").unlink(),
    "added": lambda place: (open_up(place) / "bin/added").write_text(""),
    "other type": replace_by_folder,
    "other target": point_elsewhere,
}


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", CONTENT)
def test_changed_content(name: str, full: bool, store: Store) -> None:
    with store.session() as session:
        hurt, whole = register(session, "hello"), register(session, "other")
    CONTENT[name](store.objects.path(hurt.path))
    damage = verify.verify(store, full)
    assert "content" in {each.kind for each in damage}
    assert {each.path for each in damage} == {hurt.path}
    assert whole.path not in {each.path for each in damage}


def test_changed_metadata(store: Store) -> None:
    with store.session() as session:
        info = register(session)
    place = store.objects.path(info.path)
    (place / "data").chmod(0o644)
    os.utime(place / "bin", (5, 5))
    damage = verify.verify(store)
    assert [(each.kind, each.file) for each in damage] == [
        ("metadata", place / "bin"),
        ("metadata", place / "data"),
    ]


def test_a_forged_manifest_does_not_help(store: Store) -> None:
    """Whoever changes a file and the manifest to fit is found by the full run alone."""
    with store.session() as session:
        mine, evil = register(session, "hello"), register(session, "hacks")
    for name in ("data", "bin/run"):
        good, bad = store.objects.path(mine.path) / name, store.objects.path(evil.path) / name
        good.chmod(0o644)
        good.write_bytes(bad.read_bytes())
        good.chmod(bad.stat().st_mode & 0o777)
        os.utime(good, (1, 1))
    forge(store, mine, evil)
    assert verify.verify(store) == []
    assert [(each.kind, each.path) for each in verify.verify(store, full=True)] == [("content", mine.path)]


def forge(store: Store, mine: ObjectInfo, evil: ObjectInfo) -> None:
    import zstandard

    header, records = (
        zstandard.decompress(store.layout.manifest(info.path).read_bytes()).split(b"\n", 1)[part]
        for part, info in enumerate((mine, evil))
    )
    store.layout.manifest(mine.path).write_bytes(zstandard.compress(header + b"\n" + records))


def test_everything_is_listed_in_one_run(store: Store) -> None:
    with store.session() as session:
        found = [realise(store, session, str(number)) for number in range(6)]
        store.roots.add("p/0", found[0].object.path)
        store.roots.add("p/1", found[1].object.path)
    places = [store.objects.path(each.object.path) for each in found]
    remove(places[0])
    flip(places[1] / "data")
    store.layout.manifest(found[2].object.path).unlink()
    store.layout.manifest(found[3].object.path).write_bytes(b"garbage")
    store.layout.realisation(found[4].id).write_text("{}")
    store.layout.derivation(found[5].id.derivation).write_bytes(b"de")
    (store.layout.objects / "stranger").write_text("")
    (store.layout.roots / "p/1").write_text("[]")
    events: list[Event] = []
    damage = verify.verify(store, True, events.append)
    expected = ["missing", "content", "content", "manifest", "manifest", "stray", "realisation", "derivation"]
    assert [each.kind for each in damage] == [*expected, "root", "root"]
    assert sum(isinstance(event, Progressed) for event in events) == 6


@pytest.mark.parametrize("python", [sys.executable, "/bin/false"])
@pytest.mark.parametrize("full", [False, True])
def test_a_large_store_is_shared_out_among_processes(
    full: bool, python: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And if they die, whoever asked them does it alone."""
    with store.session() as session:
        found = [realise(store, session, str(number)) for number in range(7)]
    flip(store.objects.path(found[2].object.path) / "data")
    remove(store.objects.path(found[5].object.path))
    store.layout.manifest(found[3].object.path).write_bytes(b"")
    alone = verify.verify(store, full)
    assert {each.path for each in alone} == {found[number].object.path for number in (2, 3, 5)}
    monkeypatch.setattr(scrub, "LARGE", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2})
    monkeypatch.setattr(sys, "executable", python)
    assert verify.verify(store, full) == alone


def test_strays_go_with_the_next_collection(store: Store) -> None:
    with store.session() as session:
        info = register(session)
    store.database.remove([info.path.base], [])
    [found] = verify.verify(store)
    assert (found.kind, found.hurts) == ("leftover", False)
    flip(store.objects.path(info.path) / "data")
    [found] = verify.verify(store)
    assert (found.kind, found.hurts) == ("stray", True)
    gc.collect(store)
    assert verify.verify(store) == []


def test_what_the_store_can_mend_by_itself(store: Store) -> None:
    with store.session() as session:
        modes, lost, content = (realise(store, session, name) for name in ("modes", "lost", "content"))
        other = realise(store, session, "record")
    (store.objects.path(modes.object.path) / "data").chmod(0o644)
    store.layout.manifest(lost.object.path).unlink()
    flip(store.objects.path(content.object.path) / "data")
    store.layout.realisation(other.id).write_text("{}")
    store.layout.derivation(other.id.derivation).write_bytes(b"de")
    left = mend(store, verify.verify(store, full=True))
    assert {each.path for each in left} == {content.object.path}
    assert [each.kind for each in verify.verify(store)] == ["content"]
    assert store.realisations.get(other.id) is None
    assert other.id not in store.database.facts()


def test_a_whole_object_that_is_not_registered_is_taken_in_again(store: Store) -> None:
    with store.session() as session:
        lost, changed = register(session), register(session, "other")
    store.database.remove([lost.path.base, changed.path.base], [])
    flip(store.objects.path(changed.path) / "data")
    (store.layout.objects / "stranger").write_text("")
    left = mend(store, verify.verify(store))
    assert {each.file.name for each in left} == {changed.path.base, "stranger"}
    assert store.objects.info(lost.path) == lost
    assert {each.kind for each in verify.verify(store, full=True)} == {"stray"}


PLANTED: dict[str, Callable[[Path], None]] = {
    "fifo": lambda path: os.mkfifo(path),
    "folder": lambda path: (path / "sub").mkdir(parents=True),
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_no_file_is_damage_and_stops_nothing(kind: str, store: Store) -> None:
    """Neither `verify` nor `gc` waits for a FIFO; what has no business there goes with the next collection."""
    plant = PLANTED[kind]
    with store.session() as session:
        found = [realise(store, session, str(number)) for number in range(3)]
        for number, each in enumerate(found):
            store.roots.add(f"p/{number}", each.object.path, each.id)
    layout = store.layout
    unknown = "0" * 64
    places = [
        layout.derivation(unknown),
        layout.realisation(OutputId(unknown, "out")),
        layout.manifests / found[0].object.path.base.replace("-0", "-x"),
        layout.logs / f"{unknown}.zst",
        layout.locks / "planted",
        layout.temproots / "planted",
    ]
    hurt = [
        layout.derivation(found[0].id.derivation),
        layout.realisation(found[1].id),
        layout.manifest(found[2].object.path),
    ]
    for place in [*places, *hurt]:
        place.unlink(missing_ok=True)
        plant(place)
    os.utime(layout.logs / f"{unknown}.zst", (0, 0))
    kinds = sorted(each.kind for each in verify.verify(store, full=True))
    assert kinds == ["derivation", "derivation", "manifest", "realisation", "realisation"]
    assert [each.file for each in mend(store, verify.verify(store))] == [hurt[0]]
    gc.collect(store)
    left = [(each.kind, each.file) for each in verify.verify(store)]
    assert left == [("derivation", hurt[0]), ("root", layout.roots / "p/1")]
    assert [place for place in places if os.path.lexists(place)] == []


def test_a_root_that_is_no_file_stops_a_collection_and_is_named(store: Store) -> None:
    (store.layout.roots / "p").mkdir()
    os.mkfifo(store.layout.roots / "p/x")
    assert [each.kind for each in verify.verify(store)] == ["root"]
    with pytest.raises(CcError) as caught:
        gc.collect(store)
    assert (caught.value.code, caught.value.where) == ("store-unusable", str(store.layout.roots / "p/x"))
