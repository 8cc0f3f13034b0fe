"""How long a plan takes: the longest way under the limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccstore.build.estimate import Estimate, Limits, estimate
from ccstore.build.plan import Action, Planned
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import Build, Fetch, Graph, Ref, Step, UrlSource
from ccstore.model.hashes import Sha256

PLENTY = Limits(jobs=9, downloads=9, processors=99)


def planned(steps: dict[str, tuple[Action, float | None, str]], limits: Limits = PLENTY) -> Estimate:
    """The estimate for steps by name: what is done, seconds, and the names of what it needs."""
    known: dict[str, Step] = {
        name: Build(name, name, ("sh",), None, inputs={each: Ref(each) for each in needs.split()})
        if action != "fetch"
        else Fetch(name, FixedOutput(name, "flat", Sha256(bytes(32))), UrlSource(("x",)))
        for name, (action, _, needs) in steps.items()
    }
    plan = [
        Planned(name, action, "", expected=seconds, expected_cpu=seconds)
        for name, (action, seconds, _) in steps.items()
    ]
    return estimate(plan, Graph(known), limits)


def test_a_chain_is_as_long_as_its_links() -> None:
    found = planned({"a": ("fetch", 1, ""), "b": ("build", 2, "a"), "c": ("build", 3, "b")})
    assert found == Estimate(6, {"a": 1, "b": 3, "c": 6}, ())


def test_what_is_there_takes_no_time() -> None:
    assert planned({"a": ("present", 5, ""), "b": ("build", 2, "a")}) == Estimate(2, {"b": 2}, ())
    assert planned({"a": ("present", None, "")}) == Estimate(0.0, {}, ())


def test_what_is_not_known_is_said() -> None:
    found = planned({"./x": ("copy", None, ""), "a": ("build", None, "./x"), "b": ("build", 2, "a")})
    assert (found.total, found.unknown) == (2, ("a",))


FAN: dict[str, tuple[Action, float | None, str]] = {
    "a": ("build", 2, ""),
    "b": ("build", 2, ""),
    "c": ("build", 4, ""),
    "d": ("build", 1, "a b c"),
}


@pytest.mark.parametrize(("jobs", "total"), [(1, 9), (2, 5), (3, 5)])
def test_builds_share_the_job_limit_and_the_longest_goes_first(jobs: int, total: float) -> None:
    assert planned(FAN, Limits(jobs, 1, 99)).total == total


def test_downloads_have_a_limit_of_their_own() -> None:
    steps: dict[str, tuple[Action, float | None, str]] = {f"f{i}": ("fetch", 1, "") for i in range(6)}
    assert planned(steps | {"a": ("build", 3, "")}, Limits(1, 2, 99)).total == 3
    assert planned(steps | {"a": ("build", 1, "f0")}, Limits(1, 2, 99)).total == 3


def test_processors_are_shared() -> None:
    assert planned(FAN, Limits(9, 9, 1)).total == 9
    assert planned(FAN, Limits(9, 9, 2)).total == 5


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sets(st.integers(0, 11), max_size=4)), min_size=1, max_size=12),
    st.integers(1, 4),
)
def test_between_the_longest_way_and_one_after_another(steps: list[tuple[int, set[int]]], jobs: int) -> None:
    named: dict[str, tuple[Action, float | None, str]] = {
        f"s{i}": ("build", seconds, " ".join(f"s{each}" for each in sorted(needs) if each < i))
        for i, (seconds, needs) in enumerate(steps)
    }
    longest: dict[str, float] = {}
    for name, (_, seconds, needs) in named.items():
        longest[name] = (seconds or 0) + max((longest[each] for each in needs.split()), default=0)
    found = planned(named, Limits(jobs, 1, 99))
    assert set(found.ends) == set(named)
    assert all(found.ends[name] >= way for name, way in longest.items())
    whole = sum(seconds for seconds, _ in steps)
    assert max(max(longest.values()), whole / jobs) <= found.total <= whole
