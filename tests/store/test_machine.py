"""A store against a simple picture of itself: whatever is done in whatever order, both agree."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import OutputId, Realisation
from ccstore.store import gc, verify
from ccstore.store.files import remove
from ccstore.store.rebuild import rebuild
from ccstore.store.session import Session
from ccstore.store.store import Store
from tests.store.samples import derive, listing

STEPS = ("a", "b", "c", "d")


class StoreMachine(RuleBasedStateMachine):
    """Steps are realised from others, rooted, collected; `objects`, `records` and `roots` are the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="ccstore-test-"))
        self.store = Store.open(self.folder / "store")
        self.session: Session | None = None
        self.held: set[str] = set()
        self.objects: dict[str, ObjectInfo] = {}
        self.records: dict[OutputId, Realisation] = {}
        self.roots: dict[str, Realisation] = {}

    def teardown(self) -> None:
        if self.session:
            self.session.__exit__(None, None, None)
        self.store.close()
        remove(self.folder)

    @precondition(lambda self: self.session is None)
    @rule()
    def begin(self) -> None:
        self.session = self.store.session()

    @precondition(lambda self: self.session is not None)
    @rule()
    def end(self) -> None:
        assert self.session
        self.session.__exit__(None, None, None)
        self.session = None
        self.held.clear()

    @precondition(lambda self: self.session is not None)
    @rule(step=st.sampled_from(STEPS), data=st.data())
    def realise(self, step: str, data: st.DataObject) -> None:
        assert self.session
        known = sorted(self.records.values(), key=lambda each: each.id)
        inputs = data.draw(st.lists(st.sampled_from(known), max_size=2, unique=True)) if known else []
        derivation = derive(step, *inputs)
        if OutputId(derivation.id, "out") in {each.id for each in inputs}:
            return
        with self.session.staging(step) as staging:
            (staging / "out").write_text(step)
            info = self.session.register(staging / "out", step)
        found = Realisation(OutputId(derivation.id, "out"), info, tuple(each.id for each in inputs))
        self.store.realisations.record(derivation, [found])
        self.objects[info.path.base] = info
        self.held.add(info.path.base)
        self.records[found.id] = found

    @precondition(lambda self: self.records)
    @rule(name=st.sampled_from("xy"), data=st.data())
    def root(self, name: str, data: st.DataObject) -> None:
        there = [each for each in self.records.values() if each.object.path.base in self.objects]
        if there:
            found = data.draw(st.sampled_from(there))
            self.store.roots.add(f"p/{name}", found.object.path, found.id)
            self.roots[f"p/{name}"] = found

    @precondition(lambda self: self.roots)
    @rule(data=st.data())
    def unroot(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.roots)))
        self.store.roots.remove(name)
        del self.roots[name]

    def needed(self, start: set[OutputId]) -> set[OutputId]:
        found: set[OutputId] = set()
        waiting = [each for each in start if each in self.records]
        while waiting:
            each = waiting.pop()
            if each not in found:
                found.add(each)
                waiting += [name for name in self.records[each].inputs if name in self.records]
        return found

    @rule(keep_inputs=st.booleans())
    def collect(self, keep_inputs: bool) -> None:
        closure = self.needed({each.id for each in self.roots.values()})
        live = self.held | {each.object.path.base for each in self.roots.values()}
        if keep_inputs:
            live |= {self.records[each].object.path.base for each in closure}
        bare = {each.id for each in self.records.values() if each.object.path.base in live}
        report = gc.collect(self.store, gc.GcOptions(keep_inputs=keep_inputs))
        assert {path.base for path in report.deleted} == self.objects.keys() - live
        self.objects = {base: info for base, info in self.objects.items() if base in live}
        kept = closure | self.needed(bare)
        self.records = {each: found for each, found in self.records.items() if each in kept}

    @rule()
    def rebuild(self) -> None:
        before = self.store.database.facts()
        assert rebuild(self.store.layout, self.store.database, self.store.gc_lock) == []
        assert self.store.database.facts() == before

    @rule(full=st.booleans())
    def verify(self, full: bool) -> None:
        assert verify.verify(self.store, full) == []

    @rule()
    def reopen(self) -> None:
        if self.session is None:
            self.store.close()
            self.store = Store.open(self.folder / "store", create=False)

    @invariant()
    def files_and_index_agree_with_the_picture(self) -> None:
        assert listing(self.store.layout.objects) == sorted(self.objects)
        assert listing(self.store.layout.manifests) == sorted(self.objects)
        assert {info.path.base for info in self.store.objects.all()} == self.objects.keys()
        assert listing(self.store.layout.realisations) == sorted(f"{each}.json" for each in self.records)
        assert listing(self.store.layout.derivations) == sorted({each.derivation for each in self.records})
        assert {root.name for root in self.store.roots.list()} == self.roots.keys()


StoreMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
TestStoreMachine = StoreMachine.TestCase
