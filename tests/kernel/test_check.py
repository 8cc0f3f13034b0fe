"""The kernel of this repository is built a second time, with everything varied, and is the same.

The one test that costs a second kernel build. `test_real_kernel.py` compares with other machines, by a golden value.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import Shell

INSIDE = {"hostname", "user", "path", "umask", "clock", "order", "addresses"}
AROUND = {"store", "jobs", "load", "environment", "caller-umask"}


@pytest.fixture(scope="module")
def checked(real_kernel: Shell) -> dict[str, dict[str, Any]]:
    """What a strict check of the kernel says, by output."""
    found = real_kernel.run("check", "--strict", "--json", "kernel", timeout=3000)
    return {each["target"]: each for each in json.loads(found.stdout)}


def test_the_kernel_is_the_same_when_built_again(checked: dict[str, dict[str, Any]]) -> None:
    assert set(checked) == {"kernel", "kernel^dev"}
    for each in checked.values():
        assert each["same"]
        assert [one["narHash"] for one in each["rounds"]] == [each["narHash"]]


def test_everything_was_otherwise_the_second_time(checked: dict[str, dict[str, Any]]) -> None:
    [round_] = checked["kernel"]["rounds"]
    missing = (INSIDE | AROUND) - {each["name"] for each in round_["varied"]}
    assert missing - unknown(round_) == set()


def unknown(round_: dict[str, Any]) -> set[str]:
    """What an older ccstore did not write down of the first build: CCSTORE_TEST_STORE may name a store of its."""
    return {each["name"] for each in round_["notVaried"] if "is not known" in each["why"]}


def test_it_is_written_down(checked: dict[str, dict[str, Any]], real_kernel: Shell) -> None:
    line = next(each for each in real_kernel.run("list").stdout.splitlines() if each.startswith("kernel "))
    assert line.endswith("reproduced once")
