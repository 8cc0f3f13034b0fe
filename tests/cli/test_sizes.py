"""`ccstore show --sizes`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import code
from tests.conftest import Shell, TinyProject, toolchain_import, write

SIZES = {
    "components": {"init": 9_000, "busybox": 1_200_000},
    "total": 1_209_000,
    "files": {"initrd.img": 600_000, "vmlinux": 16_000_000},
    "image": "initrd.img",
    "max-size": 1_500_000,
}


def test_of_what_says_nothing_of_it_the_top_entries_count(session_kernel: TinyProject) -> None:
    kernel = session_kernel.shell.path("kernel")
    found = json.loads(session_kernel.shell.run("show", "kernel", "--sizes", "--json").stdout)
    assert (found["target"], found["path"]) == ("kernel", str(kernel))
    assert found["components"] == {each.name: each.stat().st_size for each in kernel.iterdir()}
    assert found["total"] == sum(found["components"].values())
    assert "files" not in found


def test_a_single_file(session_kernel: TinyProject) -> None:
    found = json.loads(session_kernel.shell.run("show", "kernel.config", "--sizes", "--json").stdout)
    assert list(found["components"]) == ["kernel-config"]


@pytest.fixture
def sized(tmp_path: Path, seeded_store: Path) -> Shell:
    """A project whose target `image` says of its own sizes what the test puts into `recipes/sizes.json`."""
    write(tmp_path / "project/recipes/ccstore.yml", "project: sized\n")
    write(tmp_path / "project/recipes/import.yml", toolchain_import())
    write(tmp_path / "project/recipes/sizes.json", json.dumps(SIZES))
    recipe = "kind: build\ntoolchain: toolchain\ninputs: {sizes: {path: sizes.json}}\n"
    script = "script: |\n  mkdir $out\n  cp /in/sizes $out/sizes.json\n"
    write(tmp_path / "project/recipes/image.yml", recipe + script)
    return Shell(tmp_path / "project", seeded_store)


def test_a_guest_says_it_itself(sized: Shell) -> None:
    assert code(sized.run("show", "image", "--sizes", status=5).stderr) == "not-realised"
    [path] = sized.realize("image")
    found = json.loads(sized.run("show", "image", "--sizes", "--json").stdout)
    assert found == {"target": "image", "path": str(path), **SIZES}
    assert sized.run("show", "image", "--sizes").stdout.splitlines() == [
        "  1.2 MB   99.3 %  busybox",
        "  9.0 kB    0.7 %  init",
        "  1.2 MB           all components",
        "",
        " 16.0 MB           vmlinux",
        "  600 kB           initrd.img (max-size: 1.5 MB)",
    ]


@pytest.mark.parametrize("text", ["[]", "{", '{"components": {"a": "b"}, "total": 1}', '{"components": {}}'])
def test_a_file_of_that_name_that_is_something_else(sized: Shell, text: str) -> None:
    write(sized.project / "recipes/sizes.json", text)
    sized.realize("image")
    found = json.loads(sized.run("show", "image", "--sizes", "--json").stdout)
    assert found["components"] == {"sizes.json": len(text)}


def test_sizes_are_of_one_target(session_kernel: TinyProject) -> None:
    assert code(session_kernel.shell.run("show", "kernel", "-r", "--sizes", status=2).stderr) == "usage"
