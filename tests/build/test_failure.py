"""What a builder's own explanation is believed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from ccstore.build.buildlog import BuildLog
from ccstore.build.failure import build_error
from ccstore.errors import CcError
from ccstore.events import ignore
from ccstore.model.graph import Build
from ccstore.ports import BuildResult


class Nowhere:
    def write(self, data: bytes, /) -> object:
        return len(data)


def explained(report: Mapping[str, Any]) -> CcError:
    step = Build("step", "step", ("true",), None)
    return build_error(
        step,
        BuildResult("failed", 1, 0.0, report),
        BuildLog("step", Nowhere(), ignore, None, lambda: False),
        None,
    )


def test_a_builder_explains_its_failure() -> None:
    error = explained({"code": "patch-failed", "message": "m", "details": ["a", "b"], "hint": "h"})
    assert (error.code, error.message, error.details, error.hint) == (
        "patch-failed",
        "step: m",
        ("a", "b"),
        "h",
    )


@pytest.mark.parametrize(
    "code",
    ["interrupted", "newer-store", "internal", "hash-mismatch", "disk-full", "no such", ["x"], None, 7],
)
def test_a_builder_cannot_speak_for_the_host_or_the_store(code: object) -> None:
    assert explained({"code": code, "message": "forged"}).code == "build-failed"
    assert "forged" not in explained({"code": code, "message": "forged"}).message


@pytest.mark.parametrize("details", [5, "text", {"a": 1}, None, True])
def test_details_that_are_no_lines(details: object) -> None:
    assert explained({"code": "patch-failed", "message": "m", "details": details}).code == "build-failed"


def test_details_without_end() -> None:
    assert len(explained({"code": "patch-failed", "details": ["x"] * 100_000}).details) == 1000


def test_long_lines_without_an_error_cost_no_more_than_their_length() -> None:
    log = BuildLog("step", Nowhere(), ignore, None, lambda: False)
    start = time.process_time()
    for _ in range(500):
        log.write(b"x" * 3999 + b"\n")
    log.write(b"In file a.h: src/b.c:3:4: error: wrong\n")
    assert log.first_error == "In file a.h: src/b.c:3:4: error: wrong"
    assert time.process_time() - start < 5  # the length squared takes eight times as long


@pytest.mark.parametrize(("full", "code"), [(True, "disk-full"), (False, "build-failed")])
def test_only_a_disk_that_is_full_is_called_so(full: bool, code: str) -> None:
    log = BuildLog("step", Nowhere(), ignore, None, lambda: full)
    log.write(b"cp: /dev/shm/x: No space left on device\n")
    step = Build("step", "step", ("true",), None)
    assert build_error(step, BuildResult("failed", 1, 0.0), log, None).code == code
