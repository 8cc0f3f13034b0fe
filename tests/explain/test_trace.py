"""Traces: what a viewer needs of them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ccstore.errors import CcError
from ccstore.events import Finished, Noted, Phased, Progressed, Started
from ccstore.explain.trace import Trace, traced


def slices(text: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(text)["traceEvents"] if each["ph"] == "X"}


def test_steps_at_once_have_rows_of_their_own_and_phases_lie_in_them() -> None:
    began = time.monotonic()
    trace = Trace(began)
    with trace.own("realize"):
        trace(Started("a", "build"))
        trace(Started("b", "fetch"))
        now = time.monotonic()
        trace(Phased("a", "tools", now, now + 0.001))
        time.sleep(0.002)
        trace(Finished("a", "build", 0.002))
        trace(Started("c", "build"))
        trace(Finished("c", "build", 0.0, "build-failed"))
        trace(Finished("b", "fetch", 0.002))
    found = slices(trace.to_json())
    assert {name: each["tid"] for name, each in found.items()} == {
        "a": 1,
        "tools": 1,
        "b": 2,
        "c": 1,
        "realize": 0,
    }
    outer, inner = found["a"], found["tools"]
    assert outer["ts"] <= inner["ts"]
    assert inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"]
    assert found["c"]["args"] == {"failed": "build-failed"}
    assert inner["args"] == {"step": "a"}
    assert all(each["ts"] >= 0 and each["dur"] >= 0 for each in found.values())


def test_notes_and_counters() -> None:
    trace = Trace(time.monotonic())
    trace(Started("a", "fetch"))
    for done in range(1000):  # of which a viewer gets one in a while
        trace(Progressed("a", done, 1000, "bytes"))
    trace(Noted("a mirror failed", "a", warning=True))
    kinds = [each["ph"] for each in json.loads(trace.to_json())["traceEvents"]]
    assert kinds.count("i") == 1
    assert 1 <= kinds.count("C") < 100


def test_a_run_that_fails_is_traced_too(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    with pytest.raises(ZeroDivisionError), traced(file, time.monotonic()) as trace, trace.own("realize"):
        raise ZeroDivisionError
    assert set(slices(file.read_text())) == {"realize"}


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CcError) as caught, traced(tmp_path / "no/trace.json", time.monotonic()):
        raise AssertionError("it is found out before the work begins")
    assert caught.value.code == "output-refused"


def test_an_error_of_the_work_is_not_the_trace_s(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), traced(tmp_path / "trace.json", time.monotonic()):
        (tmp_path / "other").read_text()
