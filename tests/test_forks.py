"""What the tests' own forked children leave alone."""

from __future__ import annotations

import gc

from tests.executor.conftest import in_child


def test_a_child_does_not_collect_its_parents_garbage() -> None:
    """Its end may wait for a lock that a thread of the parent holds, as that of a gRPC channel does."""
    collected: list[str] = []

    class Garbage:
        def __init__(self, name: str) -> None:
            self.name, self.itself = name, self

        def __del__(self) -> None:
            collected.append(self.name)

    def collect() -> None:
        Garbage("the child's")
        gc.collect()
        assert collected == ["the child's"]

    gc.collect()
    Garbage("the parent's")
    in_child(collect, lambda: None)
    gc.collect()
    assert collected == ["the parent's"]
