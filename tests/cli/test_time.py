"""Where the time goes: `realize --trace` and `profile`."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.cli.conftest import Project, code
from tests.conftest import TinyProject

STEPS = ["kernel.tree", "kernel.patched", "kernel.kconfig", "kernel.config", "kernel"]


def test_a_trace_and_a_profile_of_a_run(tiny: TinyProject) -> None:
    file = tiny.root / "trace.json"
    tiny.shell.run("realize", "kernel", "--trace", str(file))
    trace: dict[str, Any] = json.loads(file.read_text())
    slices = [each for each in trace["traceEvents"] if each["ph"] == "X"]
    assert [each["name"] for each in slices if each["cat"] == "build"] == STEPS
    assert [each["name"] for each in slices if each["cat"] == "fetch"] == ["kernel.source"]
    assert {"load", "realize"} == {each["name"] for each in slices if each["cat"] == "ccstore"}
    phases = [each["name"] for each in slices if each["args"].get("step") == "kernel"]
    assert phases == ["prepare", "sandbox", "tools", "sandbox", "register", "record"]

    rows = {each["step"]: each for each in json.loads(tiny.shell.run("profile", "kernel", "--json").stdout)}
    [kernel] = [each for each in slices if each["name"] == "kernel"]
    [tools] = [each for each in slices if each["name"] == "tools" and each["args"]["step"] == "kernel"]
    row = rows["kernel"]
    assert abs(row["othersSeconds"] - tools["dur"] / 1e6) < 0.001
    assert abs(row["seconds"] - kernel["dur"] / 1e6) < 0.1
    assert row["ownSeconds"] == row["seconds"] - row["othersSeconds"]
    assert row["cpu_seconds"] > 0
    assert set(row["phases"]) == {"prepare", "sandbox", "tools", "register", "record"}
    assert set(rows["kernel.source"]["phases"]) == {"download", "register", "record"}
    assert {name for name in STEPS if rows[name]["onLongestWay"]} == set(STEPS)
    said = tiny.shell.run("profile", "kernel")
    assert "kernel.config" in said.stdout
    assert re.search(r"toolchain: \d+ downloads", said.stdout)
    assert "on the longest way; ccstore's own: " in said.stderr


def test_a_run_that_fails_is_traced_too(small: Project) -> None:
    small.script("bad", "exit 3")
    file = small.root / "trace.json"
    small.shell.run("realize", "bad", "--trace", str(file), status=3)
    [failed] = [
        each for each in json.loads(file.read_text())["traceEvents"] if each.get("args", {}).get("failed")
    ]
    assert (failed["name"], failed["args"]["failed"]) == ("bad", "build-failed")
    found = small.shell.run("realize", "bad", "--trace", "/nowhere/x", status=6)
    assert code(found.stderr) == "output-refused"


def test_a_profile_of_what_was_never_made(small: Project) -> None:
    small.recipe("data", "kind: path\npath: ../recipes\n")
    assert code(small.shell.run("profile", "data", status=5).stderr) == "not-realised"
