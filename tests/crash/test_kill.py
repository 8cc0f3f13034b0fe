"""kill -9 between any two steps of whatever changes a store: what was registered stays whole, the rest is swept up.

In a normal run each kind of step is hit once, and some more; with --full every one of them.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from ccstore.build.repair import repair
from ccstore.build.workspace import Workspace
from ccstore.codec.keyfile import write_pair
from ccstore.codec.signing import SecretKey
from ccstore.events import ignore
from ccstore.ports import Fault, no_fault
from ccstore.store import gc
from ccstore.store.damage import Damage
from ccstore.store.files import remove
from ccstore.store.layout import Layout
from ccstore.store.store import Store
from ccstore.store.verify import verify
from tests.conftest import CCSTORE
from tests.crash import corruption
from tests.crash.killing import kill_at, spread, steps_of
from tests.crash.tiny import TARGETS, Tiny, strays

COUNT, RANDOM_COUNT = 40, 8  # in a normal run, of each command


def _cut(file: Path) -> None:
    file.write_text("{")


HURT = (
    corruption.flip_a_bit,
    corruption.remove_an_object,
    corruption.change_a_mode,
    corruption.in_folder(lambda layout: list(layout.manifests.iterdir()), lambda file, _: file.unlink()),
    corruption.in_folder(lambda layout: list(layout.realisations.iterdir()), lambda file, _: file.unlink()),
    corruption.in_folder(lambda layout: list(layout.derivations.iterdir()), lambda file, _: file.unlink()),
    corruption.in_folder(lambda layout: list(layout.roots.glob("*/*")), lambda file, _: _cut(file)),
)


def realize(tiny: Tiny, fault: Fault) -> None:
    tiny.realize(fault)


def collect(tiny: Tiny, fault: Fault) -> None:
    tiny.collect(fault)


def optimise(tiny: Tiny, fault: Fault) -> None:
    with Store.open(tiny.store) as store:
        gc.collect(store, gc.GcOptions(optimise=True), fault=fault)


def mend(tiny: Tiny, fault: Fault) -> None:
    with Workspace.open(tiny.root, tiny.store) as work:
        repair(work, verify(work.store, full=True), full=True, sink=ignore, fault=fault)


def rebuild(tiny: Tiny, fault: Fault) -> None:
    with Store.open_sound(tiny.store) as store:
        fault("open")
        store.rebuild_index()
        fault("rebuild")


def nothing(tiny: Tiny) -> None:
    """The store is not even made."""


def older(tiny: Tiny) -> None:
    """An older version of everything is there."""
    tiny.realize()
    tiny.edit("another\n")


def dead(tiny: Tiny) -> None:
    """Half of what is there is dead, and somebody was killed before."""
    older(tiny)
    tiny.realize()
    layout = Layout(tiny.store)
    (layout.objects / ".tmp-dead-1").mkdir()
    (layout.objects / ".trash-1/sub").mkdir(parents=True)
    (layout.realisations / ".new-1").write_text("half")


def parted(tiny: Tiny) -> None:
    """No two objects share a file, as in a store that was copied somewhere."""
    tiny.realize()
    copy = tiny.with_store_of_its_own(tiny.store.with_name(f"{tiny.store.name}-copy"))
    subprocess.run(["cp", "-r", "--preserve=mode,timestamps", tiny.store, copy.store], check=True)
    remove(tiny.store)
    copy.store.rename(tiny.store)


def hurt(tiny: Tiny) -> None:
    tiny.realize()
    source = random.Random(8)
    for damage in HURT:
        damage(Layout(tiny.store), source)


def broken(tiny: Tiny) -> None:
    tiny.realize()
    Layout(tiny.store).index.write_bytes(b"nonsense")


KEY = SecretKey.generate("tests-1")


def cache_of(tiny: Tiny) -> Path:
    return tiny.store.with_name(f"{tiny.store.name}-cache")


def made(tiny: Tiny) -> None:
    tiny.realize()
    write_pair(KEY, tiny.root / "key")


def cached(tiny: Tiny) -> None:
    """All of it is in a cache, and in no store."""
    made(tiny)
    tiny.push(cache_of(tiny), KEY)
    tiny.trust(cache_of(tiny), KEY)
    remove(tiny.store)


def push(tiny: Tiny, fault: Fault) -> None:
    tiny.push(cache_of(tiny), KEY, fault)


def pull(tiny: Tiny, fault: Fault) -> None:
    tiny.pull(fault)


def everything_can_be_pulled(tiny: Tiny) -> None:
    """What was begun is gone on with, and the cache gives it to somebody who has nothing."""
    cache, answers = cache_of(tiny), tiny.realize()
    tiny.push(cache, KEY)
    other = tiny.with_store_of_its_own(tiny.store.with_name(f"{tiny.store.name}-other"))
    tiny.trust(cache, KEY)
    assert other.pull() == answers
    assert other.verify() == []


@dataclass(frozen=True)
class Case:
    """`prepare` makes a store in which `act` is killed; `words` are those of the command line that does it.

    What `then` asserts must hold afterwards too.
    """

    prepare: Callable[[Tiny], None]
    act: Callable[[Tiny, Fault], None]
    words: tuple[str, ...]
    then: Callable[[Tiny], None] = lambda tiny: None


CASES = {
    "realize in a new store": Case(nothing, realize, ("realize", *TARGETS)),
    "realize of another version": Case(older, realize, ("realize", *TARGETS)),
    "gc": Case(dead, collect, ("gc",)),
    "gc --optimise": Case(parted, optimise, ("gc", "--optimise")),
    "verify --repair": Case(hurt, mend, ("verify", "--full", "--repair")),
    "cache push": Case(
        made,
        push,
        ("cache", "push", *TARGETS, "--inputs", "--key", "key", "--to", "CACHE"),
        everything_can_be_pulled,
    ),
    "cache pull": Case(cached, pull, ("cache", "pull", *TARGETS)),
    "verify --rebuild-index": Case(broken, rebuild, ("verify", "--rebuild-index")),
}


def wounds(store: Path) -> set[tuple[str, str]]:
    """What is damaged, by kind and name."""
    with Store.open_sound(store) as opened:
        return {_name(each) for each in verify(opened, full=True) if each.hurts and each.kind != "index"}


def _name(damage: Damage) -> tuple[str, str]:
    return damage.kind, damage.path.base if damage.path else damage.file.name


def registered(store: Path) -> set[str]:
    if not (store / "format").exists():
        return set()
    with Store.open_sound(store) as opened:
        return {each.path.base for each in opened.objects.all()}


@dataclass(frozen=True)
class Before:
    """What must still hold for a copy of a store in which something was killed."""

    tiny: Tiny
    wounds: set[tuple[str, str]]
    kept: set[str]

    @classmethod
    def of(cls, case: Case, tiny: Tiny) -> Before:
        case.prepare(tiny)
        kept = registered(tiny.store)
        if case.act is collect:
            after = tiny.with_store(tiny.store.with_name("after"))
            after.collect()
            kept = registered(after.store)
        return cls(tiny, wounds(tiny.store) if kept else set(), kept)

    def copy(self, name: str) -> Tiny:
        store = self.tiny.store.with_name(name)
        return self.tiny.with_store(store) if self.tiny.store.exists() else Tiny(self.tiny.root, store)

    def check(self, killed: Tiny, what: object) -> None:
        """The store opens and is whole, has lost nothing, and goes on working."""
        if not (killed.store / "format").exists():
            assert not (killed.store / "index.sqlite").exists(), what
        else:
            assert wounds(killed.store) <= self.wounds, what
            assert self.kept <= registered(killed.store), what
        if self.wounds:
            mend(killed, no_fault)
        killed.realize()
        killed.collect()
        assert strays(killed.store) == [], what
        assert killed.verify() == [], what


@pytest.mark.parametrize("name", CASES)
def test_kill_9_between_two_steps(name: str, tiny: Tiny, memory: Path, full: bool) -> None:
    case = CASES[name]
    before = Before.of(case, tiny)
    counted = before.copy("counted")
    steps = steps_of(lambda fault: case.act(counted, fault))
    chosen = range(1, len(steps) + 1) if full else spread(steps, COUNT)
    for number in chosen:
        killed = before.copy(str(number))
        kill_at(number, partial(case.act, killed), memory / "log")
        before.check(killed, (number, steps[number - 1]))
        case.then(killed)
    print(f"{name}: {len(chosen)} of {len(steps)} points, {len(set(steps))} kinds")


@pytest.mark.parametrize("name", CASES)
def test_kill_9_at_any_time(name: str, tiny: Tiny, memory: Path, full: bool) -> None:
    """From outside, whatever it is doing: the command itself, from the start of its Python to its end."""
    case = CASES[name]
    before = Before.of(case, tiny)
    seconds = _run(case, before.copy("timed"), None)
    source = random.Random(9)
    count = 100 if full else RANDOM_COUNT
    caught = 0
    for number in range(count):
        killed = before.copy(str(number))
        after = source.uniform(0.1, 1) * seconds
        taken = _run(case, killed, after)
        if taken < 0:
            caught += 1
        else:  # the machine has less to do than it had
            seconds = min(seconds, taken)
        before.check(killed, (number, after))
        case.then(killed)
    print(f"{name}: {caught} of {count} runs were killed, each of some {seconds:.1f} s")
    assert caught > count / 4


def _run(case: Case, tiny: Tiny, kill_after: float | None) -> float:
    """How long the command took, or its negative if it was killed in the middle."""
    began = time.monotonic()
    words = [cache_of(tiny).as_uri() if word == "CACHE" else word for word in case.words]
    argv = [str(CCSTORE), "--debug", *words, "--store", str(tiny.store)]
    with subprocess.Popen(argv, cwd=tiny.root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            _, said = process.communicate(timeout=kill_after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return began - time.monotonic()
    assert process.returncode == 0, said.decode()
    return time.monotonic() - began
