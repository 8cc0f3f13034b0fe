"""The conditions of rounds, and what is said of them: pure functions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ccstore.build.traces import circumstances
from ccstore.build.vary import (
    FEW_PROCESSORS,
    INSIDE,
    LABELS,
    LEAST_MEMORY,
    LEFT_OUT,
    NAMES,
    OTHER_USER,
    OUTSIDE,
    STRICT_ONLY,
    Host,
    chosen,
    plan_round,
    variations,
)
from ccstore.ports import Conditions

HOST = Host(
    caller=0,
    umask=0o022,
    processors=frozenset(range(FEW_PROCESSORS)),
    memory=16 * LEAST_MEMORY,
    store=Path("/store"),
    order="abcdefgh",
    clock=Path("/clock.so"),
    inputs={"small": 10, "large": 100 * LEAST_MEMORY},
    first={"jobs": "4", "kernel": "6.1", "clock": "1700000000", "processors": "4"},
)
WORDS = {"CCSTORE_CHECK_X": "5eed5eed5eed"}
SEEN = {
    "hostname": "rebuild-1",
    "kernel": "6.1",
    "user": "4242:5242",
    "path": "/home/round1/a-longer-path/build",
    "umask": "0027",
    "addresses": "random",
    "processors": "3",
    "jobs": "5",
    "order": "hgfedcba",
    "clock": "1800000000",
    "caller": str(OTHER_USER),
    "caller-umask": "0077",
    "environment": "LANG=tr_TR.UTF-8, 3 random variables",
    "load": "1 busy process, 3.0 s of CPU time",
}


def test_every_name_is_explained() -> None:
    assert set(LABELS) == {*NAMES, "kernel"}
    assert not set(INSIDE) & set(OUTSIDE)


def test_a_plain_check_leaves_the_inside_as_it_is() -> None:
    plan = plan_round(1, chosen(strict=False), HOST, WORDS)
    assert plan.conditions == Conditions(probe=True)
    assert plan.jobs == 5
    assert plan.surroundings.uid == OTHER_USER
    assert plan.surroundings.processors == frozenset(range(FEW_PROCESSORS - 1))
    assert plan.surroundings.environment["CCSTORE_CHECK_X"] == "5eed5eed5eed"


def test_a_strict_check_changes_all_of_it() -> None:
    plan, usual = plan_round(1, chosen(strict=True), HOST, WORDS), Conditions()
    for name in ("hostname", "domain", "user", "uid", "gid", "build", "umask", "random_addresses"):
        assert getattr(plan.conditions, name) != getattr(usual, name), name
    assert plan.conditions.clock is not None
    assert plan.conditions.in_memory == ("small",)
    assert plan.on_disk == ("large",)
    assert plan.excluded == {}


def test_rounds_differ_from_one_another() -> None:
    one, other = (plan_round(number, chosen(strict=True), HOST, WORDS) for number in (1, 2))
    for name in ("hostname", "user", "uid", "build", "umask", "clock"):
        assert getattr(one.conditions, name) != getattr(other.conditions, name), name
    assert one.jobs != other.jobs
    assert one.surroundings.umask != other.surroundings.umask
    assert one.surroundings.environment["LANG"] != other.surroundings.environment["LANG"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_out_stays_as_it_was(name: str) -> None:
    plan = plan_round(1, chosen(strict=True, without=frozenset({name})), HOST, WORDS)
    full = plan_round(1, chosen(strict=True), HOST, WORDS)
    assert plan.excluded == {name: LEFT_OUT}
    if name != "store":  # where the second store lies is not a part of the plan
        assert (plan.conditions, plan.surroundings, plan.jobs) != (
            full.conditions,
            full.surroundings,
            full.jobs,
        )


@pytest.mark.parametrize("name", NAMES)
def test_only_one_condition_can_be_varied(name: str) -> None:
    plan = plan_round(1, chosen(strict=False, only=frozenset({name})), HOST, WORDS)
    nothing = plan_round(1, dict.fromkeys(NAMES, LEFT_OUT), HOST, WORDS)
    assert set(plan.excluded) == set(NAMES) - {name}
    changed = [
        plan.conditions != nothing.conditions,
        plan.surroundings != nothing.surroundings,
        plan.jobs != 4,
    ]
    assert sum(changed) == (0 if name == "store" else 1)


@pytest.mark.parametrize(
    ("host", "name", "words"),
    [
        (replace(HOST, caller=1000), "caller", "only root"),
        (replace(HOST, closed="/root is closed to other users"), "caller", "/root"),
        (replace(HOST, processors=frozenset({0, 1})), "processors", "with 2"),
        (replace(HOST, clock=None, no_clock="unreachable"), "clock", "unreachable"),
        (replace(HOST, memory=LEAST_MEMORY // 2), "order", "MiB of memory"),
        (replace(HOST, sandboxed=False), "hostname", "without a sandbox"),
    ],
)
def test_what_a_host_cannot_is_said(host: Host, name: str, words: str) -> None:
    plan = plan_round(1, chosen(strict=True), host, WORDS)
    assert words in plan.excluded[name]
    seen = {key: value for key, value in SEEN.items() if key not in (name, "clock")}
    [told] = [each for each in variations(plan, host, Path("/x/store"), seen) if each.name == name]
    assert not told.varied
    assert words in told.why


def told(left_out: dict[str, str], seen: dict[str, str], host: Host = HOST) -> dict[str, str]:
    """Why each condition was not varied, empty for one that was."""
    plan = plan_round(1, left_out, host, WORDS)
    return {each.name: each.why for each in variations(plan, host, Path("/x/store"), seen)}


def test_all_that_was_varied_is_told() -> None:
    assert {name for name, why in told(chosen(strict=True), SEEN).items() if why} == {"kernel"}


def test_a_condition_that_came_out_the_same_is_not_called_varied() -> None:
    why = told(chosen(strict=True), {**SEEN, "hostname": "ccstore", "order": "abcdefgh"})
    assert why["hostname"] == why["order"] == "it came out the same"


def test_what_was_not_measured_is_not_called_varied() -> None:
    seen = {name: value for name, value in SEEN.items() if name not in ("hostname", "load")}
    why = told(chosen(strict=True), seen)
    assert why["hostname"] == why["load"] == "it could not be measured"


def test_what_is_not_known_of_the_first_build_is_not_called_varied() -> None:
    why = told(chosen(strict=True), SEEN, replace(HOST, first={}))
    assert why["jobs"] == why["clock"] == "what it was for the first build is not known"
    assert why["hostname"] == ""  # the sandbox fixes it, so it is known


def test_another_machine_is_noticed() -> None:
    assert told(chosen(strict=False), {**SEEN, "kernel": "6.12"})["kernel"] == ""


def test_the_sandbox_is_given_as_the_reason() -> None:
    seen = {**SEEN, "hostname": "ccstore"}
    assert told(chosen(strict=False), seen)["hostname"] == STRICT_ONLY
    assert told(chosen(strict=True, without=frozenset({"hostname"})), seen)["hostname"] == LEFT_OUT


def test_the_traces_are_those_of_what_was_varied() -> None:
    plan = plan_round(1, chosen(strict=False, only=frozenset({"hostname"})), HOST, WORDS)
    known = circumstances(plan, HOST, Path("/x/store"), SEEN, 10.0)
    pairs = {each.cause: (each.first, each.second) for each in known.traces if each.first}
    assert pairs == {"host name": (("ccstore", "(none)"), ("rebuild-1", "round1.example"))}
    assert (known.second_time.begin, known.second_time.end) == (1800000000, 1800000010)
