"""The verbs that only look: what they print, for people and for programs."""

from __future__ import annotations

import itertools
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from ccstore.cli.app import VERBS, cli
from tests.cli.conftest import code
from tests.conftest import TinyProject

REALISED = {
    *("target", "path", "storePath", "narHash", "narSize"),
    *("derivation", "output", "origin", "executor", "purity"),
}


def parsed(project: TinyProject, *arguments: str) -> Any:
    return json.loads(project.shell.run(*arguments).stdout)


def test_list(session_kernel: TinyProject) -> None:
    rows = {each["target"]: each for each in parsed(session_kernel, "list", "--json")}
    assert set(rows) == {"kernel", "kernel^dev", "toolchain"}
    names = {"target", "kind", "state", "path", "purity", "reproduced", "differed"}
    assert all(set(each) == names for each in rows.values())
    assert (rows["kernel"]["kind"], rows["kernel"]["state"]) == ("kernel", "realised")
    assert rows["kernel"]["path"] == str(session_kernel.shell.path("kernel"))
    text = session_kernel.shell.run("list").stdout.splitlines()
    assert [line.split()[0] for line in text] == sorted(rows)


def test_list_of_what_is_missing(tiny: TinyProject) -> None:
    rows = {each["target"]: each for each in parsed(tiny, "list", "--json")}
    assert (rows["kernel"]["state"], rows["kernel"]["path"]) == ("missing", None)
    assert rows["toolchain"]["state"] == "realised"


def test_realize_and_path_as_json(realised: TinyProject) -> None:
    [kernel, dev] = parsed(realised, "realize", "--json", "kernel", "kernel^dev")
    assert set(kernel) == set(dev) == REALISED
    assert (kernel["target"], kernel["output"]) == ("kernel", "out")
    assert (dev["target"], dev["output"], dev["derivation"]) == ("kernel^dev", "dev", kernel["derivation"])
    assert kernel["storePath"] == f"/nix/store/{Path(kernel['path']).name}"
    assert (kernel["origin"], kernel["executor"], kernel["purity"]) == ("built", "sandbox", "clean")
    assert realised.shell.run("hash", kernel["path"]).stdout == f"{kernel['narHash']}\n"
    assert parsed(realised, "path", "kernel", "--json") == kernel


def test_show(session_kernel: TinyProject) -> None:
    [config] = parsed(session_kernel, "show", "kernel.config")
    assert set(config) == {"step", "recipe", "id", "derivation", "source", "inputs", "outputs"}
    assert config["recipe"].startswith("recipes/kernel.yml:")
    assert config["inputs"]["tree"] == "kernel.kconfig^out"
    assert config["derivation"]["env"] == {"BASE": "tinyconfig", "SOURCE_DATE_EPOCH": "1", "VERSION": "1.0.0"}
    assert set(config["derivation"]["inputs"]) == set(config["inputs"])
    out = config["outputs"]["out"]
    assert set(out) == {*REALISED, "present", "reproduced", "differed"}
    assert (out["present"], out["path"]) == (True, str(session_kernel.shell.path("kernel.config")))
    assert out["derivation"] == config["id"]


def test_show_with_every_step(session_kernel: TinyProject) -> None:
    steps = [each["step"] for each in parsed(session_kernel, "show", "-r", "kernel")]
    order = ["kernel.source", "kernel.tree", "kernel.patched", "kernel.kconfig", "kernel.config", "kernel"]
    assert [step for step in steps if step in order] == order
    [source] = parsed(session_kernel, "show", "kernel.source")
    assert source["derivation"]["method"] == "flat"
    assert source["source"]["urls"][0].startswith("file://")


def test_show_of_what_cannot_be_known_yet(tiny: TinyProject) -> None:
    [kernel] = parsed(tiny, "show", "kernel")
    assert (kernel["id"], kernel["derivation"], kernel["outputs"]) == (None, None, {})


def test_graph_as_text(session_kernel: TinyProject) -> None:
    text = session_kernel.shell.run("graph", "kernel").stdout
    assert text.splitlines()[0] == "kernel  [present]"
    assert "└── kernel.source  [present]" in text
    assert "sources (--all lists them)" in text
    assert "toolchain.gcc-12  [present]" in session_kernel.shell.run("graph", "kernel", "--all").stdout


def test_graph_as_json_and_dot(session_kernel: TinyProject) -> None:
    steps = {each["step"]: each for each in parsed(session_kernel, "graph", "kernel", "--format", "json")}
    assert set(steps["kernel"]) == {"step", "type", "state", "derivation", "inputs"}
    assert steps["kernel"]["inputs"] == {
        "/": "toolchain",
        "config": "kernel.config",
        "tree": "kernel.patched",
    }
    assert (steps["kernel.source"]["type"], steps["kernel"]["state"]) == ("fetch", "present")
    dot = session_kernel.shell.run("graph", "kernel", "--format", "dot").stdout.splitlines()
    assert (dot[0], dot[-1]) == ("digraph ccstore {", "}")
    for name, step in steps.items():
        assert [line for line in dot if line.startswith(f'  "{name}" [')]
        assert all(f'  "{each}" -> "{name}";' in dot for each in step["inputs"].values())


def pictured(project: TinyProject, *arguments: str) -> dict[str, str]:
    """The boxes of the picture: what stands below each name."""
    text = project.shell.run("graph", "kernel", "--format", "svg", *arguments).stdout
    words = [each.text or "" for each in ET.fromstring(text).iter("{http://www.w3.org/2000/svg}text")]
    return {name: about for name, about in itertools.pairwise(words) if " · " in about}


def test_graph_as_a_picture(session_kernel: TinyProject) -> None:
    boxes = pictured(session_kernel)
    [many] = [name for name in boxes if name.endswith(" sources of toolchain")]
    assert set(boxes) == {
        *(many, "toolchain", "kernel.source", "kernel.tree", "./patches", "kernel.patched"),
        *(
            "./config/10-devices.config",
            "./config/20-greeting.config",
            "kernel.kconfig",
            "kernel.config",
            "kernel",
        ),
    }
    assert re.fullmatch(r"present · [\d.]+ [kM]?B · [\d.]+ s", boxes["kernel"])
    assert "toolchain.bash" in pictured(session_kernel, "--all")


def test_a_picture_of_what_is_missing(tiny: TinyProject) -> None:
    boxes = pictured(tiny)
    assert boxes["./patches"].startswith("to copy · ")
    assert boxes["toolchain"].startswith("present · ")
    text = tiny.shell.run("graph", "kernel", "--format", "svg").stdout
    assert text.count(">to build<") == 6  # five boxes that say nothing more, and the legend
    assert ">to fetch<" in text


def test_graph_of_what_is_missing(tiny: TinyProject) -> None:
    text = tiny.shell.run("graph", "kernel").stdout
    assert "kernel  [missing]" in text
    assert "toolchain  [present]" in text


def test_plan_and_dry_run_say_the_same_and_do_nothing(tiny: TinyProject) -> None:
    before = sorted(tiny.shell.store.rglob("*"))
    planned = tiny.shell.run("plan", "kernel")
    dry = tiny.shell.run("realize", "--dry-run", "kernel")
    assert dry.stdout == planned.stdout
    assert [line.split()[:2] for line in planned.stdout.splitlines() if "./" not in line] == [
        ["fetch", "kernel.source"],
        ["build", "kernel.tree"],
        ["build", "kernel.patched"],
        ["build", "kernel.kconfig"],
        ["build", "kernel.config"],
        ["build", "kernel"],
    ]
    assert "to build: 5" in planned.stderr
    steps = parsed(tiny, "plan", "kernel", "--json")
    assert parsed(tiny, "realize", "--dry-run", "--json", "kernel") == steps
    keys = {
        "step",
        "action",
        "reason",
        "path",
        "expectedSeconds",
        "expectedLike",
        "expectedEnd",
        "downloadSize",
    }
    assert all(set(each) == keys for each in steps)
    assert sorted(tiny.shell.store.rglob("*")) == before
    assert tiny.shell.run("path", "kernel", status=5).stdout == ""


def test_log(session_kernel: TinyProject) -> None:
    assert "  LD      vmlinux" in session_kernel.shell.run("log", "kernel").stdout.splitlines()
    assert "applying 0001-bus" in session_kernel.shell.run("log", "kernel.patched").stdout
    missing = session_kernel.shell.run("log", "kernel.source", status=5)
    assert (missing.stdout, code(missing.stderr)) == ("", "not-found")


def test_schema_accepts_the_recipes(session_kernel: TinyProject) -> None:
    schema = parsed(session_kernel, "schema")
    validator = jsonschema.Draft202012Validator(schema)
    recipe = yaml.safe_load((session_kernel.root / "recipes/kernel.yml").read_text())
    assert list(validator.iter_errors(recipe)) == []
    assert list(validator.iter_errors({**recipe, "pathces": "x"})) != []


def test_doctor(session_kernel: TinyProject) -> None:
    checks = {each["check"]: each for each in parsed(session_kernel, "doctor", "--json")}
    assert all(set(each) == {"check", "state", "result", "remedy"} for each in checks.values())
    required = {
        "platform",
        "python",
        "store",
        "user namespaces",
        "a private /proc",
        "overlays in a user namespace",
    }
    assert {name: checks[name]["state"] for name in required} == dict.fromkeys(required, "ok")
    lines = session_kernel.shell.run("doctor").stdout.splitlines()
    assert {line.split(maxsplit=1)[1].partition(":")[0] for line in lines if line[0] != " "} == set(checks)


@pytest.mark.parametrize(
    ("arguments", "expected", "status"),
    [
        (["realise", "kernel"], "usage", 2),
        (["realize"], "usage", 2),
        (["realize", "kernel", "--jobs", "0"], "usage", 2),
        (["path", "kernle"], "recipe-unknown", 2),
        (["path", "kernel.confg"], "recipe-unknown", 2),
        (["path", "kernel^debug"], "recipe-unknown", 2),
        (["-C", "nowhere", "list"], "file-missing", 2),
        (["-C", "/", "list"], "no-project", 2),
    ],
)
def test_a_wrong_command_line(
    session_kernel: TinyProject, arguments: list[str], expected: str, status: int
) -> None:
    found = session_kernel.shell.run(*arguments, status=status)
    assert (found.stdout, code(found.stderr)) == ("", expected)
    assert "  next: " in found.stderr


def test_a_misspelt_target_is_corrected(session_kernel: TinyProject) -> None:
    assert "kernel" in session_kernel.shell.run("path", "kernle", status=2).stderr.partition("next:")[2]


def test_the_project_is_found_from_below(session_kernel: TinyProject) -> None:
    found = session_kernel.shell.run("-C", "patches", "path", "kernel").stdout
    assert found == f"{session_kernel.shell.path('kernel')}\n"


def test_every_verb_has_help(session_kernel: TinyProject) -> None:
    text = session_kernel.shell.run("--help").stdout
    for verb in VERBS:
        assert f"  {verb}" in text
    for command in commands():
        said = session_kernel.shell.run(*command.split(), "--help").stdout
        assert said.startswith(f"Usage: ccstore {command} ")
        # in a sentence a command is in backticks
        assert re.search(rf"^  [^`\n]*ccstore {command}\b", said, re.MULTILINE), f"{command}: no example"


def commands() -> Iterator[str]:
    """Every verb, and those of the groups among them."""
    context = click.Context(cli)
    for verb in VERBS:
        yield verb
        group = cli.get_command(context, verb)
        if isinstance(group, click.Group):
            yield from (f"{verb} {each}" for each in group.list_commands(context))
