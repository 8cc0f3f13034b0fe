"""Pushing and pulling between stores: what is sent, what is believed, and what can be wrong with a cache."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from ccstore.build import pulling
from ccstore.build.knowledge import Knowledge
from ccstore.build.pulling import pull
from ccstore.build.sharing import PushOptions, closure, push
from ccstore.build.substitute import receive
from ccstore.cache import entries
from ccstore.cache.folder import FolderCache
from ccstore.cache.source import Source
from ccstore.cache.sources import Sources
from ccstore.codec import narinfo, statements
from ccstore.codec.signing import PublicKey, SecretKey
from ccstore.errors import CcError
from ccstore.events import Event, Noted
from ccstore.model.realisation import OutputId, Realisation
from ccstore.ports import Cancel
from ccstore.store.store import Store
from ccstore.store.verify import verify
from tests.cache.conftest import Place
from tests.store.samples import derive, listing, realise

Stores = tuple[Store, Store]


def realised(store: Store) -> tuple[Realisation, Realisation]:
    """Two steps, the second made from the first."""
    with store.session() as session:
        first = realise(store, session, "first")
        return first, realise(store, session, "second", first)


class Asking:
    """Sources with their notes."""

    def __init__(self, *sources: Source) -> None:
        self.notes: list[Noted] = []
        self.sources = Sources(sources, self._note, Cancel())

    def _note(self, event: Event) -> None:
        if isinstance(event, Noted):
            self.notes.append(event)

    @property
    def codes(self) -> list[str]:
        return [note.message.rpartition("[")[2].rstrip("]") for note in self.notes if note.warning]


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and size of each file of a cache."""
    found = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {str(path.relative_to(folder)): (each.st_ino, each.st_size) for path, each in found.items()}


def test_what_is_pushed_can_be_pulled(place: Place, stores: Stores, key: SecretKey) -> None:
    one, other = stores
    first, second = realised(one)
    [sent] = push(one, place.url, key, [second])
    assert (sent.state, sent.info) == ("sent", second.object)
    names = {name for name in files(place.folder) if "/" not in name}
    assert names == {"nix-cache-info", f"{second.object.path.hash}.narinfo"}
    assert {path.name for path in (place.folder / "realisations").iterdir()} == {
        f"{each.id.derivation}.out.json" for each in (first, second)
    }
    asking = Asking(Source(place.url, (key.public,)))
    for realisation in (first, second):
        found = asking.sources.realisation(realisation.id)
        assert found is not None
        assert found.object == realisation.object
        assert (found.origin, found.inputs) == ("substituted", realisation.inputs)
    pull(other, asking.sources, [second.object.path])
    assert other.objects.has(second.object.path)
    assert not other.objects.has(first.object.path)
    assert verify(other, True, lambda event: None) == []
    assert asking.notes == []
    assert listing(other.layout.partial) == []


def many(store: Store) -> list[Realisation]:
    with store.session() as session:
        return [realise(store, session, f"step-{number}") for number in range(6)]


def test_several_are_pulled_at_once(
    stores: Stores, key: SecretKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = stores
    made, url = many(one), (tmp_path / "cache").as_uri()
    push(one, url, key, made)
    pair = threading.Barrier(2)

    def beside_another(*arguments: Any) -> bool:
        pair.wait(60)
        return receive(*arguments)

    monkeypatch.setattr(pulling, "receive", beside_another)
    pull(other, Asking(Source(url)).sources, [each.object.path for each in (*made, made[0])])
    assert all(other.objects.has(each.object.path) for each in made)
    assert verify(other, True, lambda event: None) == []


def test_one_that_is_missing_ends_the_pull_of_several(stores: Stores, key: SecretKey, tmp_path: Path) -> None:
    one, other = stores
    made, cache = many(one), tmp_path / "cache"
    push(one, cache.as_uri(), key, made)
    paths = [each.object.path for each in made]
    missing = paths[3]
    (cache / f"{missing.hash}.narinfo").unlink()
    cancel = Cancel()
    with pytest.raises(CcError) as caught:
        pull(other, Asking(Source(cache.as_uri())).sources, paths, cancel=cancel)
    assert caught.value.code == "not-found"
    assert str(missing) in caught.value.message
    assert cancel.cancelled
    assert set(listing(other.layout.objects)) <= {path.base for path in paths if path != missing}
    assert verify(other, True, lambda event: None) == []
    push(one, cache.as_uri(), key, made)
    pull(other, Asking(Source(cache.as_uri())).sources, paths)
    assert sorted(path.base for path in paths) == listing(other.layout.objects)
    assert listing(other.layout.partial) == []


def test_what_is_there_is_not_sent_again(place: Place, stores: Stores, key: SecretKey) -> None:
    one, _ = stores
    _, second = realised(one)
    push(one, place.url, key, [second], options=PushOptions(inputs=True))
    before = files(place.folder)
    again = push(one, place.url, key, [second], options=PushOptions(inputs=True))
    assert [each.state for each in again] == ["present", "present"]
    assert files(place.folder) == before
    (place.folder / f"{second.object.path.hash}.narinfo").unlink()  # as if the push had been killed before
    [sent, _] = push(one, place.url, key, [second], options=PushOptions(inputs=True))
    assert sent.state == "sent"
    nars = {name: each for name, each in files(place.folder).items() if name.startswith("nar/")}
    assert nars == {name: each for name, each in before.items() if name.startswith("nar/")}
    [forced] = push(one, place.url, key, [second], options=PushOptions(force=True))
    assert forced.state == "sent"
    assert files(place.folder) != before


def test_signatures_are_merged(place: Place, stores: Stores, key: SecretKey) -> None:
    one, _ = stores
    _, second = realised(one)
    another = SecretKey.generate("another-1")
    push(one, place.url, key, [second])
    [signed] = push(one, place.url, another, [second])
    assert signed.state == "signed"
    found = narinfo.decode((place.folder / f"{second.object.path.hash}.narinfo").read_bytes())
    assert {each.name for each in found.signatures} == {key.name, another.name}
    for each in (key, another):
        asking = Asking(Source(place.url, (each.public,)))
        assert asking.sources.realisation(second.id)
    [said] = statements.decode((place.folder / statements.name(second.id)).read_bytes(), second.id)
    assert {each.name for each in said.signatures} == {key.name, another.name}


def test_a_key_that_is_not_trusted(place: Place, stores: Stores, key: SecretKey) -> None:
    one, _ = stores
    first, second = realised(one)
    push(one, place.url, key, [second])
    own = SecretKey.generate(key.name)  # the same name, another key
    for trusted in (SecretKey.generate("wanted-1").public, own.public):
        asking = Asking(Source(place.url, (trusted,)))
        assert asking.sources.realisation(first.id) is None
        assert asking.sources.realisation(second.id) is None
        assert asking.codes == ["signature-invalid"]  # once, not for each
        [note] = asking.notes
        for word in (place.url, str(trusted), key.name, "configuration"):
            assert word in note.message
    assert Asking(Source(place.url)).sources.realisation(first.id) is None


def test_what_was_taken_counts_while_its_key_is_trusted(
    stores: Stores, key: SecretKey, tmp_path: Path
) -> None:
    one, other = stores
    _, second = realised(one)
    url = (tmp_path / "cache").as_uri()
    push(one, url, key, [second])
    asking = Asking(Source(url, (key.public,)))
    knowledge = Knowledge(other, [key.public], asking.sources)
    derivation = one.realisations.derivation(second.id.derivation)
    assert derivation
    assert knowledge.ask(derivation, "second")["out"].object == second.object
    assert other.realisations.get(second.id) is None
    knowledge.keep()
    kept = other.realisations.get(second.id)
    assert kept
    assert [each.name for each in kept.signatures] == [key.name]
    assert Knowledge(other, [key.public]).local(second.id) == kept
    assert Knowledge(other, [SecretKey.generate("x").public]).local(second.id) is None
    assert Knowledge(one, []).local(second.id) == second


def nar_of(folder: Path, realisation: Realisation) -> Path:
    found = narinfo.decode((folder / f"{realisation.object.path.hash}.narinfo").read_bytes())
    return folder / found.url


def evicted(folder: Path, realisation: Realisation) -> None:
    nar_of(folder, realisation).unlink()


def truncated(folder: Path, realisation: Realisation) -> None:
    os.truncate(nar_of(folder, realisation), 50)


def emptied(folder: Path, realisation: Realisation) -> None:
    os.truncate(nar_of(folder, realisation), 0)


def corrupt(folder: Path, realisation: Realisation) -> None:
    data = bytearray(nar_of(folder, realisation).read_bytes())
    data[len(data) // 2] ^= 0x10
    nar_of(folder, realisation).write_bytes(data)


def another_nar(folder: Path, realisation: Realisation) -> None:
    """A right file under a wrong name, and a narinfo that fits it."""
    path = folder / f"{realisation.object.path.hash}.narinfo"
    other = next(each for each in (folder / "nar").iterdir() if each != nar_of(folder, realisation))
    found = narinfo.decode(path.read_bytes())
    lines = path.read_text().splitlines()
    url = f"URL: nar/{other.name}"
    lines = [url if line.startswith("URL: ") else line for line in lines]
    lines = [f"FileSize: {other.stat().st_size}" if line.startswith("FileSize: ") else line for line in lines]
    lines = [line for line in lines if not line.startswith("FileHash: ")]
    path.write_text("\n".join(lines) + "\n")
    assert narinfo.decode(path.read_bytes()).object == found.object


def lying_narinfo(folder: Path, realisation: Realisation) -> None:
    """It says the content of another object."""
    path = folder / f"{realisation.object.path.hash}.narinfo"
    other = next(each for each in folder.glob("*.narinfo") if each != path)
    path.write_text(path.read_text().splitlines()[0] + "\n" + other.read_text().partition("\n")[2])


def damaged_narinfo(folder: Path, realisation: Realisation) -> None:
    path = folder / f"{realisation.object.path.hash}.narinfo"
    path.write_bytes(path.read_bytes()[:-10])


def absurd_size(folder: Path, realisation: Realisation) -> None:
    path = folder / f"{realisation.object.path.hash}.narinfo"
    path.write_text(path.read_text().replace("NarSize: ", "NarSize: 9"))


FAULTS: list[Callable[[Path, Realisation], None]] = [
    *(evicted, truncated, emptied, corrupt, another_nar, lying_narinfo, damaged_narinfo)
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_entry_is_a_miss_and_the_next_cache_is_asked(
    place: Place, stores: Stores, key: SecretKey, tmp_path: Path, fault: Callable[[Path, Realisation], None]
) -> None:
    one, other = stores
    _, second = realised(one)
    good = (tmp_path / "good").as_uri()
    for url in (place.url, good):
        push(one, url, key, [second], options=PushOptions(inputs=True))
    fault(place.folder, second)
    asking = Asking(Source(place.url, (key.public,), 1))
    with pytest.raises(CcError) as caught:
        pull(other, asking.sources, [second.object.path])
    assert caught.value.code in ("cache-invalid", "not-found")
    assert len(asking.codes) == 1
    assert listing(other.layout.objects) == []
    both = Asking(Source(good, (key.public,), 2), Source(place.url, (key.public,), 1))
    pull(other, both.sources, [second.object.path])
    assert other.objects.has(second.object.path)
    assert len(both.codes) == 1
    assert verify(other, True, lambda event: None) == []
    [mended, _] = push(one, place.url, key, [second], options=PushOptions(inputs=True, force=True))
    assert mended.state == "sent"
    shutil.rmtree(tmp_path / "good")


def test_a_push_mends_what_it_can_see_is_broken(place: Place, stores: Stores, key: SecretKey) -> None:
    one, other = stores
    _, second = realised(one)
    for fault in (evicted, truncated, damaged_narinfo, lying_narinfo, absurd_size):
        push(one, place.url, key, [second], options=PushOptions(inputs=True))
        fault(place.folder, second)
        [sent, _] = push(one, place.url, key, [second], options=PushOptions(inputs=True))
        assert sent.state == "sent"
    asking = Asking(Source(place.url))
    pull(other, asking.sources, [second.object.path])
    assert asking.notes == []


def test_realisations_that_are_broken(place: Place, stores: Stores, key: SecretKey) -> None:
    one, _ = stores
    first, second = realised(one)
    push(one, place.url, key, [second])
    path = place.folder / statements.name(second.id)
    whole = path.read_bytes()
    other = (place.folder / statements.name(first.id)).read_bytes()
    forged = whole.replace(second.object.path.base.encode(), first.object.path.base.encode())
    lengthened = whole.replace(b'"narSize": ', b'"narSize": 1')
    for data in (whole[:-20], b"", other, b"[]", forged, b"x" * (statements.MAX_SIZE + 1)):
        path.write_bytes(data)
        asking = Asking(Source(place.url, (key.public,)))
        assert asking.sources.realisation(second.id) is None
        assert asking.codes == ["cache-invalid"]
    path.write_bytes(lengthened)
    asking = Asking(Source(place.url, (key.public,)))
    assert asking.sources.realisation(second.id) is None
    assert asking.codes == ["signature-invalid"]
    push(one, place.url, key, [second])
    assert Asking(Source(place.url, (key.public,))).sources.realisation(second.id)


def test_caches_are_asked_in_order(stores: Stores, key: SecretKey, tmp_path: Path) -> None:
    one, _ = stores
    _, second = realised(one)
    urls = [(tmp_path / name).as_uri() for name in ("a", "b", "c")]
    for url in urls:
        push(one, url, key, [second])
    (tmp_path / "c/nix-cache-info").write_text("StoreDir: /nix/store\nPriority: 5\n")
    keys = (key.public,)
    asking = Asking(Source(urls[0], keys), Source(urls[1], keys, 10), Source(urls[2], keys))
    assert [each.cache.url for each in asking.sources.opened()] == [urls[2], urls[1], urls[0]]
    offers = list(asking.sources.offers(second.object))
    assert [each.cache.url for each in offers] == [urls[2], urls[1], urls[0]]


@pytest.mark.parametrize(
    ("info", "code"),
    [(None, "not-a-cache"), ("StoreDir: /gnu/store\n", "not-a-cache"), ("hello\n", "cache-invalid")],
)
def test_what_is_no_cache(tmp_path: Path, key: SecretKey, info: str | None, code: str) -> None:
    (tmp_path / "cache").mkdir()
    if info:
        (tmp_path / "cache/nix-cache-info").write_text(info)
    asking = Asking(Source((tmp_path / "cache").as_uri(), (key.public,)))
    assert asking.sources.realisation(OutputId(derive("x").id, "out")) is None
    assert asking.codes == [code]


def test_a_cache_that_does_not_answer_is_asked_once(stores: Stores, key: SecretKey) -> None:
    first, second = realised(stores[0])
    asking = Asking(Source("http://127.0.0.1:9", (key.public,)))
    for each in (first, second, first):
        assert asking.sources.realisation(each.id) is None
    assert asking.codes == ["unreachable"]


def test_only_what_is_clean_is_pushed(stores: Stores, key: SecretKey, tmp_path: Path) -> None:
    one, _ = stores
    _, second = realised(one)
    derivation = one.realisations.derivation(second.id.derivation)
    assisted = Realisation(second.id, second.object, second.inputs, purity="assisted")
    one.realisations.record(derivation, [assisted])
    assert closure(one, [assisted]) == []
    push(one, (tmp_path / "cache").as_uri(), key, [], [second.object.path])
    assert not (tmp_path / "cache/realisations").exists()


def test_a_damaged_object_is_not_pushed(stores: Stores, key: SecretKey, tmp_path: Path) -> None:
    one, _ = stores
    _, second = realised(one)
    file = one.objects.path(second.object.path) / "data"
    file.chmod(0o644)
    file.write_text("other")
    with pytest.raises(CcError) as caught:
        push(one, (tmp_path / "cache").as_uri(), key, [second])
    assert caught.value.code == "object-damaged"
    assert set(files(tmp_path / "cache")) == {"nix-cache-info"}


def steps_of(run: Callable[[Callable[[str], None]], object]) -> list[str]:
    steps: list[str] = []
    run(steps.append)
    return steps


def test_a_push_that_stops_anywhere_leaves_nothing_that_lies(
    place: Place, stores: Stores, key: SecretKey, tmp_path: Path
) -> None:
    one, _ = stores
    _, second = realised(one)
    count = len(steps_of(lambda fault: push(one, (tmp_path / "all").as_uri(), key, [second], fault=fault)))
    assert count > 8
    for stop_at in range(count):
        shutil.rmtree(place.folder, ignore_errors=True)
        place.folder.mkdir()
        left = iter(range(stop_at))

        def fault(step: str, left: Iterable[int] = left) -> None:
            if next(iter(left), None) is None:
                raise RuntimeError(step)

        with pytest.raises(RuntimeError):
            push(one, place.url, key, [second], fault=fault)
        everything_named_is_there(place.folder, second, key.public)
    push(one, place.url, key, [second])
    everything_named_is_there(place.folder, second, key.public)
    assert nar_of(place.folder, second).exists()


def everything_named_is_there(folder: Path, second: Realisation, key: PublicKey) -> None:
    cache = FolderCache(folder)
    for path in folder.glob("*.narinfo"):
        found = narinfo.decode(path.read_bytes())
        assert found.file_size is not None
        assert cache.holds(found.url, found.file_size)
    if (folder / statements.name(second.id)).exists():
        assert entries.read_narinfo(cache, second.object.path)
