"""Roots, realisations, logs and history."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import asdict

import pytest
import zstandard

from ccstore.errors import CcError
from ccstore.model.derivation import Derivation, FixedOutput
from ccstore.model.graph import Ref
from ccstore.model.hashes import Sha256
from ccstore.model.lineage import Lineage, Origin
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import OutputId, Realisation
from ccstore.model.storepath import StorePath
from ccstore.store.history import Run
from ccstore.store.store import Store
from tests.store.samples import derive, python, realise, register

ID = "e" * 64
DIGEST = Sha256(bytes(32))


def test_roots(store: Store) -> None:
    with store.session() as session:
        found = realise(store, session, "kernel")
        other = register(session, "x", "other")
    store.roots.add("p1/kernel.tree^dev", found.object.path, found.id)
    store.roots.add("p1/kernel", found.object.path, found.id)
    store.roots.add("p2/kernel", other.path)
    store.roots.add("p1/kernel", other.path)
    assert [(root.name, root.path) for root in store.roots.list()] == [
        ("p1/kernel", other.path),
        ("p1/kernel.tree^dev", found.object.path),
        ("p2/kernel", other.path),
    ]
    assert (store.layout.roots / "p1" / "kernel").is_file()
    root = store.roots.get("p1/kernel.tree^dev")
    assert root is not None
    assert root.realisation == found.id
    store.roots.remove("p1/kernel")
    assert store.roots.get("p1/kernel") is None
    with pytest.raises(CcError) as caught:
        store.roots.remove("p1/kernel")
    assert caught.value.code == "root-unknown"


def test_lineages(store: Store) -> None:
    lineage = Lineage(Ref("kernel"), 7, {"kernel": Origin("kernel", "local", texts={"": "x\udcff"})})
    store.lineages.record("p1/kernel", lineage)
    assert store.lineages.get("p1/kernel") == lineage
    assert list(store.lineages.of_project("p1")) == [lineage]
    assert list(store.lineages.of_project("p2")) == []
    for damage in (b"", b"\x28\xb5\x2f\xfd rubbish", zstandard.compress(b"{}")):
        (store.layout.lineages / "p1/kernel").write_bytes(damage)
        assert store.lineages.get("p1/kernel") is None
        assert list(store.lineages.of_project("p1")) == []
    with pytest.raises(CcError) as caught:
        store.lineages.record("../x", lineage)
    assert caught.value.code == "name-invalid"


@pytest.mark.parametrize("name", ["kernel", "../x", "a/../b", "a/b/c", "/a", "a/", "a/.b", "a b/c", "a/b\n"])
def test_names_that_no_root_can_have(name: str, store: Store) -> None:
    with store.session() as session:
        info = register(session)
    with pytest.raises(CcError) as caught:
        store.roots.add(name, info.path)
    assert caught.value.code == "name-invalid"


@pytest.mark.parametrize("size", ["1e999", "NaN", "null", "[]", '"x"', "[" * 5000])
def test_a_realisation_that_is_none(size: str) -> None:
    text = Realisation(
        OutputId(ID, "out"), ObjectInfo(StorePath.of_content("a", DIGEST), DIGEST, 96)
    ).to_json()
    assert Realisation.from_json(text).object.nar_size == 96
    with pytest.raises(ValueError):
        Realisation.from_json(text.replace(":96,", f":{size},"))


def test_realisations(store: Store) -> None:
    with store.session() as session:
        out, dev = register(session, "out", "k"), register(session, "dev", "k-dev")
    derivation = Derivation("k", ("sh",), outputs=("dev", "out"))
    first = [Realisation(OutputId(derivation.id, name), info) for name, info in (("out", out), ("dev", dev))]
    store.realisations.record(derivation, first)
    assert store.realisations.get(first[1].id) == first[1]
    assert store.realisations.derivation(derivation.id) == derivation
    assert store.realisations.of_object(dev.path) == [first[1]]
    assert store.realisations.get(OutputId(ID, "out")) is None
    assert store.realisations.derivation(ID) is None
    better = Realisation(first[0].id, dev, purity="assisted")
    store.realisations.record(derivation, [better])
    assert store.realisations.get(first[0].id) == better
    assert store.realisations.of_object(out.path) == []
    assert set(store.realisations.of_object(dev.path)) == {first[1], better}


def test_fixed_outputs_are_derivations_too(store: Store) -> None:
    fixed = FixedOutput("x.tar.xz", "flat", Sha256.of(b"x"))
    store.realisations.record(fixed, [])
    assert store.realisations.derivation(fixed.id) == fixed


def test_unreadable_records(store: Store) -> None:
    with store.session() as session:
        found = realise(store, session, "one")
    store.layout.realisation(found.id).write_text('{"format": 1}')
    store.layout.derivation(found.id.derivation).write_bytes(derive("other").encode())
    for act in (
        lambda: store.realisations.get(found.id),
        lambda: store.realisations.derivation(found.id.derivation),
    ):
        with pytest.raises(CcError) as caught:
            act()
        assert caught.value.code == "object-damaged"


def test_a_log_can_be_read_while_it_is_written(store: Store) -> None:
    with store.logs.writer(ID) as log:
        log.write(b"first\n")
        assert b"".join(store.logs.read(ID)) == b"first\n"
        log.write(os.urandom(1 << 17))
    assert len(b"".join(store.logs.read(ID))) == 6 + (1 << 17)
    with store.logs.writer(ID) as log:
        log.write(b"second run\n")
    assert b"".join(store.logs.read(ID)) == b"second run\n"
    with pytest.raises(CcError) as caught:
        store.logs.read("f" * 64)
    assert caught.value.code == "not-found"


def test_the_log_of_a_failed_build_is_whole(store: Store) -> None:
    def build() -> None:
        with store.logs.writer(ID) as log:
            log.write(b"error: no\n")
            raise KeyError

    with pytest.raises(KeyError):
        build()
    assert b"".join(store.logs.read(ID)) == b"error: no\n"


CRASHING = """
import os, signal, sys
from pathlib import Path
from ccstore.store.store import Store
writer = Store.open(Path(sys.argv[1])).logs.writer(sys.argv[2])
log = writer.__enter__()
for number in range(1000):
    log.write(f"line {number}\\n".encode())
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_crash_keeps_what_came(store: Store) -> None:
    assert python(CRASHING, str(store.root), ID).returncode == -signal.SIGKILL
    assert b"".join(store.logs.read(ID)).splitlines()[-1] == b"line 999"


def test_a_log_that_is_none(store: Store) -> None:
    store.logs.path(ID).write_bytes(b"not zstd at all")
    with pytest.raises(CcError) as caught:
        list(store.logs.read(ID))
    assert caught.value.code == "object-damaged"


def run(outcome: str = "built", seconds: float = 1.0) -> Run:
    return Run("kernel", ID, seconds, 2.5, 1400, outcome, "sandbox", 1.5e9)


def test_history(store: Store) -> None:
    assert store.history.last("kernel") is None
    for each in (run(seconds=1), run(seconds=2), run("failed", 3)):
        store.history.record(each)
    assert store.history.last("kernel") == run(seconds=2)
    assert store.history.last("kernel", None) == run("failed", 3)
    assert store.history.last("kernel.tree") is None
    with pytest.raises(CcError) as caught:
        store.history.last("../kernel")
    assert caught.value.code == "name-invalid"


def test_what_a_step_usually_takes_is_the_median_of_its_last_five_runs(store: Store) -> None:
    assert store.history.usual("kernel") is None
    store.history.record(run("failed", 99))
    assert store.history.usual("kernel") is None
    for seconds in (500, 10, 1, 30, 2, 20):
        store.history.record(run(seconds=seconds))
    usual = store.history.usual("kernel")
    assert usual is not None
    assert usual.seconds == 10


def test_a_run_that_an_older_ccstore_wrote_is_read(store: Store) -> None:
    value = {key: each for key, each in asdict(run(seconds=3)).items() if key != "phases"}
    (store.layout.history / "kernel.jsonl").write_text(json.dumps(value) + "\n")
    assert store.history.last("kernel") == run(seconds=3)


def test_a_line_of_history_that_was_cut_short_hides_no_other(store: Store) -> None:
    store.history.record(run(seconds=1))
    with (store.layout.history / "kernel.jsonl").open("ab") as file:
        file.write(b'{"step": "kernel", "deri')
    assert store.history.last("kernel") == run(seconds=1)
    store.history.record(run(seconds=2))
    assert [each.seconds for each in store.history.runs("kernel")] == [2, 1]


def test_threads_write_history_together(store: Store) -> None:
    def write() -> None:
        for _ in range(20):
            store.history.record(run())

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(store.history.runs("kernel"))) == 80
