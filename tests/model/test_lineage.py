"""Lineages as text and back, and texts that are none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccstore.model.graph import Ref
from ccstore.model.lineage import Lineage, Origin

# every byte string can be a file's content, and comes as surrogates
TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
TABLE = st.dictionaries(TEXT, TEXT, max_size=3)


@st.composite
def lineages(draw: st.DrawFn) -> Lineage:
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, unique=True))
    refs = st.builds(Ref, st.sampled_from(names), st.sampled_from(["out", "dev"]))
    origins = st.builds(
        Origin,
        name=TEXT,
        kind=st.sampled_from(["fetch", "local", "build"]),
        derivation=st.none() | TEXT,
        contents=TABLE,
        inputs=st.dictionaries(TEXT, refs, max_size=3),
        env=TABLE,
        files=TABLE,
        rest=TABLE,
        says=TABLE,
        texts=st.none() | TABLE,
        where=TEXT,
    )
    return Lineage(draw(refs), draw(st.integers(0)), {name: draw(origins) for name in names})


@given(lineages())
def test_there_and_back(lineage: Lineage) -> None:
    assert Lineage.from_json(lineage.to_json().encode().decode()) == lineage


ONE = json.loads(Lineage(Ref("a"), 1, {"a": Origin("a", "local")}).to_json())


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {**ONE, "format": 2},
        {**ONE, "top": ["a"], "origins": {"a": 1}},
        {**ONE, "origins": {"a": {"name": "a", "kind": "local", "other": 1}}},
        {**ONE, "origins": {"a": {**ONE["origins"]["a"], "inputs": {"x": ["gone", "out"]}}}},
    ],
)
def test_what_is_no_lineage(value: object) -> None:
    with pytest.raises(ValueError):
        Lineage.from_json(json.dumps(value))
