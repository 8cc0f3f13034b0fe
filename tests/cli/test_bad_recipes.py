"""Recipes that are wrong: each gets one error with a stable code and the place, and nothing is begun."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Project, code, place

BUILD = "kind: build\ntoolchain: toolchain\nscript: echo >/out/out\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

WRONG = {
    "a misspelt key": (
        BUILD + "timout: 3m\n",
        "recipe-invalid",
        "recipes/x.yml:4:1",
        "did you mean timeout",
    ),
    "a misspelt key that must be there": (
        BUILD.replace("script", "scirpt"),
        "recipe-invalid",
        "recipes/x.yml:1:1",
        "recipes/x.yml:3:1: there is no key 'scirpt' (did you mean script?)",
    ),
    "a wrong type": (BUILD + "outputs: {out: yes}\n", "recipe-invalid", "recipes/x.yml:4:10", "list"),
    "a wrong number": (BUILD + "source-date-epoch: soon\n", "recipe-invalid", "recipes/x.yml:4:20", "'soon'"),
    "a wrong time": (BUILD + "timeout: 5 minutes\n", "recipe-invalid", "recipes/x.yml:4:10", "45s"),
    "an unknown kind": (BUILD.replace("build", "biuld"), "recipe-invalid", "recipes/x.yml:1:7", "build"),
    "no script": (BUILD.partition("script")[0], "recipe-invalid", "recipes/x.yml", "script"),
    "a YAML bomb": (BOMB + BUILD, "recipe-syntax", "recipes/x.yml:1:4", "anchor"),
    "a duplicate key": (BUILD + "script: 'true'\n", "recipe-syntax", "recipes/x.yml:4:1", "script"),
    "no YAML": (BUILD + "inputs: [}\n", "recipe-syntax", "recipes/x.yml:4", ""),
    "a tag": (BUILD + "env: !!python/object/apply:os.system [id]\n", "recipe-syntax", "recipes/x.yml:4", ""),
    "an unknown recipe": (
        BUILD + "inputs: {a: toolchian}\n",
        "recipe-unknown",
        "recipes/x.yml:4:13",
        "toolchain",
    ),
    "an unknown output": (
        BUILD + "inputs: {a: toolchain^dev}\n",
        "recipe-unknown",
        "recipes/x.yml:4:13",
        "out",
    ),
    "a recipe that needs itself": (BUILD + "inputs: {a: x}\n", "recipe-cycle", "recipes/x.yml:4:13", "x → x"),
    "a missing file": (
        BUILD + "inputs: {a: {path: ../flies}}\n",
        "file-missing",
        "recipes/x.yml:4:20",
        "files",
    ),
    "a hash that is none": (
        "kind: url\nurl: [file:///dev/null]\nsha256: abc\n",
        "recipe-invalid",
        "recipes/x.yml:3:9",
        "64 hex digits",
    ),
    "an unknown scheme": (
        f"kind: url\nurl: [gopher://example.org/]\nsha256: {'0' * 64}\n",
        "recipe-invalid",
        "recipes/x.yml:2:7",
        "http(s)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_recipe_is_refused_at_its_place(small: Project, name: str) -> None:
    text, expected, where, told = WRONG[name]
    (small.root / "files").mkdir()
    small.recipe("x", text)
    found = small.shell.run("realize", "x", status=2)
    assert (found.stdout, code(found.stderr)) == ("", expected)
    assert place(found.stderr).startswith(where)
    assert told in found.stderr
    assert small.shell.run("plan", "x", status=2).stderr == found.stderr


def test_a_circle_of_recipes(small: Project) -> None:
    for name, needs in (("one", "two"), ("two", "three"), ("three", "one")):
        small.recipe(name, f"{BUILD}inputs: {{a: {needs}}}\n")
    found = small.fails("realize", "two")
    assert (found.returncode, code(found.stderr)) == (2, "recipe-cycle")
    assert "one → two → three → one" in found.stderr
    assert place(found.stderr) == "recipes/one.yml:4:13"


def test_a_recipe_file_that_leads_out_of_the_project(small: Project) -> None:
    outside = small.root.parent / "outside.yml"
    outside.write_text(BUILD)
    (small.root / "recipes/x.yml").symlink_to(outside)
    found = small.fails("realize", "x")
    assert (found.returncode, code(found.stderr)) == (2, "recipe-outside")
    assert place(found.stderr).startswith("recipes/x.yml")


def test_a_file_that_leads_out_of_the_project(small: Project) -> None:
    (small.root / "secret").symlink_to("/etc/hostname")
    small.recipe("x", "kind: path\npath: ../secret\n")
    found = small.fails("realize", "x")
    assert (found.returncode, code(found.stderr)) == (2, "recipe-outside")
    assert place(found.stderr) == "recipes/x.yml:2:7"


def test_an_import_that_is_not_there(small: Project) -> None:
    small.recipe("x", f"import: [../../elsewhere/recipes/y.yml]\n{BUILD}")
    found = small.fails("realize", "x")
    assert (found.returncode, code(found.stderr)) == (2, "file-missing")
    assert place(found.stderr).startswith("recipes/x.yml:1:")


def test_a_project_file_that_is_wrong(small: Project) -> None:
    (small.root / "recipes/ccstore.yml").write_text("project: small\njbos: 3\n")
    found = small.shell.run("list", status=2)
    assert code(found.stderr) in ("config-invalid", "recipe-invalid")
    assert place(found.stderr) == "recipes/ccstore.yml:2:1"


def test_every_wrong_key_is_told_at_once(small: Project) -> None:
    small.recipe("x", f"{BUILD}timout: 3s\nenvv: {{}}\n")
    found = small.fails("realize", "x")
    assert "timout" in found.stderr
    assert "envv" in found.stderr


def test_no_traceback_without_debug(small: Project, tmp_path: Path) -> None:
    (small.root / "recipes/x.yml").mkdir()
    found = small.fails("realize", "x")
    assert found.returncode == 2
    assert code(found.stderr).startswith(("recipe-", "file-", "name-"))


def test_a_folder_with_something_that_is_no_file(small: Project) -> None:
    (small.root / "folder").mkdir()
    os.mkfifo(small.root / "folder/fifo")
    small.recipe("x", "kind: path\npath: ../folder\n")
    found = small.fails("realize", "x")
    assert (found.returncode, code(found.stderr)) == (2, "recipe-invalid")
    assert place(found.stderr) == "recipes/x.yml:2:7"
    assert "folder/fifo" in found.stderr
