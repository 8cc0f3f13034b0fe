"""What a collection keeps, what it deletes, and that it never deletes what somebody needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.model.realisation import OutputId, Realisation
from ccstore.store import gc, measure, verify, workers
from ccstore.store.explain import keepers
from ccstore.store.gc import GcOptions
from ccstore.store.layout import TRASH_PREFIX
from ccstore.store.store import Store
from tests.store.samples import derive, listing, python, realise, register


def chain(store: Store) -> list[Realisation]:
    """one ← two ← three, and `other`, which nothing needs; only `three` has a root."""
    with store.session() as session:
        one = realise(store, session, "one")
        two = realise(store, session, "two", one)
        three = realise(store, session, "three", two)
        other = realise(store, session, "other")
        store.roots.add("p/three", three.object.path, three.id)
    return [one, two, three, other]


def test_the_closure_of_a_root_is_kept(store: Store) -> None:
    *needed, other = chain(store)
    report = gc.collect(store)
    assert report.deleted == (other.object.path,)
    assert (report.kept, report.realisations, report.logs) == (3, 1, 1)
    assert all(store.objects.has(each.object.path) for each in needed)
    assert listing(store.layout.objects) == sorted(each.object.path.base for each in needed)
    assert listing(store.layout.manifests) == listing(store.layout.objects)
    assert store.realisations.get(other.id) is None
    assert store.realisations.derivation(other.id.derivation) is None
    assert verify.verify(store, full=True) == []


def test_without_inputs_only_their_records_are_kept(store: Store) -> None:
    one, two, three, _ = chain(store)
    gc.collect(store, GcOptions(keep_inputs=False))
    assert listing(store.layout.objects) == [three.object.path.base]
    for each in (one, two, three):
        assert store.realisations.get(each.id) == each
        assert store.realisations.derivation(each.id.derivation) is not None
        assert list(store.logs.read(each.id.derivation))
    assert not store.objects.has(one.object.path)
    with store.session() as session:  # coming back, an object finds its realisation
        register(session, "one", "one")
    assert store.realisations.of_object(one.object.path) == [one]
    assert verify.verify(store, full=True) == []


def test_without_roots_nothing_is_left(store: Store) -> None:
    chain(store)
    store.roots.remove("p/three")
    report = gc.collect(store)
    assert len(report.deleted) == 4
    for folder in (
        store.layout.objects,
        store.layout.manifests,
        store.layout.realisations,
        store.layout.derivations,
        store.layout.logs,
        store.layout.temproots,
    ):
        assert listing(folder) == []
    assert store.objects.all() == []
    assert gc.collect(store) == gc.GcReport()


def test_a_dry_run_says_what_would_go_and_lets_it_be(store: Store) -> None:
    *_, other = chain(store)
    before = {folder: listing(folder) for folder in store.layout.folders()}
    planned = gc.collect(store, GcOptions(dry_run=True))
    assert planned.deleted == (other.object.path,)
    assert {folder: listing(folder) for folder in store.layout.folders()} == before
    done = gc.collect(store)
    assert (done.deleted, done.freed) == (planned.deleted, planned.freed)


def test_what_would_be_freed_counts_leftovers(store: Store) -> None:
    chain(store)
    left = store.layout.objects / f"{TRASH_PREFIX}of-a-collection"
    left.mkdir()
    (left / "large").write_bytes(os.urandom(1 << 20))
    planned = gc.collect(store, GcOptions(dry_run=True))
    assert planned.freed > 1 << 20
    assert gc.collect(store).freed == planned.freed


def test_leftovers_may_be_deeper_than_a_path_is_long(store: Store) -> None:
    left = store.layout.objects / f"{TRASH_PREFIX}of-a-collection"
    left.mkdir()
    deeper = "i=0; while [ $i -lt 600 ]; do mkdir deeeeeeeeep; cd deeeeeeeeep; i=$((i+1)); done"
    subprocess.run(["sh", "-c", deeper], cwd=left, check=True)
    assert gc.collect(store, GcOptions(dry_run=True)).freed > 0
    assert gc.collect(store).freed > 0
    assert listing(store.layout.objects) == []


def test_freed_bytes_count_a_file_with_two_names_once(store: Store) -> None:
    with store.session() as session:
        with session.staging("a") as staging:
            (staging / "out").mkdir()
            (staging / "out/large").write_bytes(os.urandom(1 << 20))
            base = session.register(staging / "out", "base")
        with session.staging("b") as staging:
            (staging / "upper").mkdir()
            (staging / "upper/more").write_text("x")
            grown = session.register_overlay(base.path, staging / "upper", "grown")
    store.roots.add("p/grown", grown.path)
    assert gc.collect(store, GcOptions(dry_run=True)).freed < 1 << 20
    store.roots.remove("p/grown")
    planned = gc.collect(store, GcOptions(dry_run=True))
    assert 1 << 20 <= planned.freed < (1 << 20) + (1 << 16)
    assert gc.collect(store).freed == planned.freed


@pytest.mark.parametrize("serves", ["ccstore.store.measure", "ccstore.store.nothing"])
def test_sizes_of_many_are_added_up_in_another_process(
    serves: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And in this one, if that dies."""
    with store.session() as session:
        for name in ("a", "b"):
            with session.staging(name) as staging:
                (staging / "out").mkdir()
                (staging / "out/large").write_bytes(b"shared" * 100_000)
                (staging / "out/own").write_text(name)
                session.register(staging / "out", name)
    shutil.copytree(store.layout.object(store.objects.all()[0].path), store.layout.objects / f"{'0' * 32}-c")
    here = gc.collect(store, GcOptions(dry_run=True))
    started = [workers.start(serves, str(store.layout.objects))]
    monkeypatch.setattr(measure, "MANY", 1)
    monkeypatch.setattr(measure, "PART", 1)
    monkeypatch.setattr(workers, "start", lambda *_: started[0])
    assert gc.collect(store, GcOptions(dry_run=True)) == here
    assert (started[0].returncode == 0, len(here.names)) == (serves != "ccstore.store.nothing", 3)
    assert gc.collect(store).freed == here.freed


def test_the_names_of_a_file_may_be_measured_in_two_places(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one", "two", "three")]
    files[0].write_bytes(b"shared" * 100_000)
    for other in files[1:]:
        other.hardlink_to(files[0])
    here, there = measure.Measure(), measure.Measure()
    assert here.add_all(files[:2]) == there.add(files[2]) == 0
    assert here.go_on(there.unfinished()) == measure.disk_usage(files)
    assert here.unfinished() == []


def test_the_oldest_go_first_until_the_store_is_small_enough(store: Store) -> None:
    with store.session() as session:
        infos = [register(session, str(number), f"o{number}") for number in range(4)]
    each = gc.collect(store, GcOptions(dry_run=True)).freed // 4
    assert gc.collect(store, GcOptions(max_size=4 * each)).deleted == ()
    report = gc.collect(store, GcOptions(max_size=3 * each - 1))
    assert report.deleted == (infos[0].path, infos[1].path)
    assert gc.collect(store, GcOptions(max_size=0)).deleted == (infos[2].path, infos[3].path)


def test_young_objects_can_be_spared_with_their_records(store: Store) -> None:
    *_, other = chain(store)
    store.roots.remove("p/three")
    assert gc.collect(store, GcOptions(older_than=3600)).deleted == ()
    assert store.realisations.get(other.id) == other
    assert len(gc.collect(store, GcOptions(older_than=-3600)).deleted) == 4


def test_what_a_session_protects_stays_until_it_ends(store: Store) -> None:
    with store.session() as first:
        found = realise(store, first, "one")
    with store.session() as second:
        second.protect(found.object.path)
        assert gc.collect(store).deleted == ()
        assert store.realisations.get(found.id) == found
        [keeper] = keepers(store, found.object.path)
        assert (keeper.root, keeper.session, keeper.chain) == (None, second.id, ())
        assert keeper.process
        assert keeper.process.pid == os.getpid()
    assert keepers(store, found.object.path) == []
    assert gc.collect(store).deleted == (found.object.path,)


def test_what_keeps_an_object_is_a_root_and_the_way_from_it(store: Store) -> None:
    one, two, three, other = chain(store)
    store.roots.add("p/bare", one.object.path)
    for needed, way in ((three, [three]), (two, [three, two]), (one, [three, two, one])):
        by_root = {each.root.name: each.chain for each in keepers(store, needed.object.path) if each.root}
        assert [fact.id for fact in by_root.pop("p/three")] == [each.id for each in way]
        assert by_root == ({"p/bare": ()} if needed is one else {})
    assert keepers(store, other.object.path) == []
    gc.collect(store)
    with pytest.raises(CcError) as caught:
        keepers(store, other.object.path)
    assert caught.value.code == "not-found"


def test_staging_of_a_running_session_stays(store: Store) -> None:
    with store.session() as session, session.staging("kernel.tree") as staging:
        (staging / "half").write_text("made")
        assert gc.collect(store).rubbish == 0
        assert (staging / "half").read_text() == "made"
    assert listing(store.layout.objects) == []


LEFT_BEHIND = """
import os, sys
from pathlib import Path
from ccstore.store.store import Store
store = Store.open(Path(sys.argv[1]))
session = store.session()
staging = session.staging("x").__enter__()
(staging / "closed/inner").mkdir(parents=True)
(staging / "closed/inner/f").write_text("x")
(staging / "closed").chmod(0)
os._exit(9)
"""


def test_what_a_dead_session_left_is_removed(store: Store) -> None:
    assert python(LEFT_BEHIND, str(store.root)).returncode == 9
    (store.layout.objects / ".trash-0").mkdir()
    (store.layout.realisations / ".new-0").write_text("half")
    assert gc.collect(store, GcOptions(dry_run=True)).rubbish == 3
    assert gc.collect(store).rubbish == 3
    assert listing(store.layout.objects) == listing(store.layout.temproots) == []
    assert listing(store.layout.realisations) == []


def test_strangers_among_the_objects_go_whatever_they_are_called(store: Store) -> None:
    (store.layout.objects / "stranger").mkdir()
    (store.layout.objects / "0-other").write_text("")
    assert gc.collect(store).rubbish == 2
    assert listing(store.layout.objects) == []


def test_logs_of_failed_builds_stay_a_month(store: Store) -> None:
    for derivation, days in (("a" * 64, 29), ("b" * 64, 31)):
        with store.logs.writer(derivation) as log:
            log.write(b"error\n")
        at = time.time() - days * 86400
        os.utime(store.logs.path(derivation), (at, at))
    assert gc.collect(store).logs == 1
    assert listing(store.layout.logs) == ["a" * 64 + ".zst"]


def test_a_root_that_cannot_be_read_stops_the_collection(store: Store) -> None:
    chain(store)
    (store.layout.roots / "p/three").write_text("{")
    with pytest.raises(CcError) as caught:
        gc.collect(store)
    assert caught.value.code == "store-unusable"
    assert len(listing(store.layout.objects)) == 4


def test_a_bare_root_keeps_the_records_of_its_object(store: Store) -> None:
    one, two, *_ = chain(store)
    store.roots.remove("p/three")
    store.roots.add("p/kept", two.object.path)
    assert one.object.path in gc.collect(store).deleted
    assert store.realisations.of_object(two.object.path) == [two]
    assert store.realisations.get(one.id) == one
    with pytest.raises(CcError) as caught:
        store.roots.add("p/gone", one.object.path)
    assert caught.value.code == "not-found"


def test_realisations_known_only_from_a_cache(store: Store) -> None:
    with store.session() as session:
        info = register(session)
        missing = OutputId("c" * 64, "out")
        found = Realisation(OutputId(derive("x").id, "out"), info, (missing,), origin="substituted")
        store.realisations.record(None, [found])
        store.roots.add("p/x", info.path, found.id)
    assert gc.collect(store).deleted == ()
    assert store.realisations.get(found.id) == found


def test_collecting_in_a_loop_beside_builds_takes_nothing_from_them(store: Store) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def collecting() -> None:
        with Store.open(store.root) as other:
            while not stop.is_set():
                gc.collect(other)

    def building(worker: int) -> None:
        try:
            with Store.open(store.root) as mine, mine.session() as session:
                last = realise(mine, session, f"w{worker}-0")
                for number in range(1, 8):
                    # every worker also makes the same objects as the others
                    shared = register(session, f"shared-{number}", "shared")
                    assert mine.objects.has(shared.path)
                    last = realise(mine, session, f"w{worker}-{number}", last)
                    assert mine.objects.has(last.object.path)
                mine.roots.add(f"p/w{worker}", last.object.path, last.id)
        except BaseException as error:
            failures.append(error)

    collector = threading.Thread(target=collecting)
    workers = [threading.Thread(target=building, args=(number,)) for number in range(3)]
    for thread in (collector, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    collector.join()
    assert failures == []
    assert verify.verify(store, full=True) == []
    gc.collect(store)
    assert len(listing(store.layout.objects)) == 3 * 8
    assert all(name.startswith("w") for name in (each.path.name for each in store.objects.all()))


BUILDER = """
import sys
from pathlib import Path
from ccstore.store.store import Store
from tests.store.samples import realise

with Store.open(Path(sys.argv[1])) as store:
    for number in range(int(sys.argv[2])):
        with store.session() as session:
            first = realise(store, session, f"p{sys.argv[3]}-{number}")
            last = realise(store, session, f"shared-{number}", first)
            assert store.objects.has(first.object.path) and store.objects.has(last.object.path)
            store.roots.add(f"p/{sys.argv[3]}", last.object.path, last.id)
            assert store.objects.has(last.object.path)
"""


def test_processes_beside_a_collector(store: Store, tmp_path: Path) -> None:
    done: list[str] = []
    workers = [
        threading.Thread(
            target=lambda name=name: done.append(python(BUILDER, str(store.root), "6", name).stderr)
        )
        for name in ("a", "b")
    ]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        gc.collect(store)
    assert done == ["", ""]
    gc.collect(store)
    assert {each.path.name for each in store.objects.all()} >= {"shared-5"}
    assert verify.verify(store, full=True) == []


def test_a_realisation_that_a_crash_kept_out_of_the_index_is_kept(store: Store) -> None:
    """Its file comes first; whoever is killed before the index has it leaves this."""
    *needed, _ = chain(store)
    store.database.remove([], [needed[-1].id])
    gc.collect(store)
    assert store.realisations.get(needed[-1].id) == needed[-1]
    assert all(store.objects.has(each.object.path) for each in needed)
    assert store.realisations.of_object(needed[-1].object.path) == [needed[-1]]
