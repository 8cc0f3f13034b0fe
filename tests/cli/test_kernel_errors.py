"""What a kernel recipe that cannot be made gets: one error, with the place in the person's own files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import assert_whole, code, edit, place
from tests.conftest import TinyProject

DEVICES = "config/10-devices.config"
GREETING = "config/20-greeting.config"
BUS_PATCH = "patches/0001-bus-say-that-a-patch-was-here.patch"
INNER = re.compile(r"/in/|fragment-0|patches-0")  # names that only the sandbox knows


def failure(project: TinyProject, expected: str, target: str = "kernel") -> str:
    """Runs `realize`, which must fail with this code, and returns what it said."""
    found = project.shell.run("realize", target, status=3)
    assert (found.stdout, code(found.stderr)) == ("", expected)
    told = (
        re.sub(r"^  \| .*\n", "", found.stderr, flags=re.MULTILINE)
        if expected == "build-failed"
        else found.stderr
    )
    assert not INNER.search(told), told  # a log is shown as it is
    assert "  next: " in found.stderr
    assert_whole(project.shell)
    return found.stderr


def line_of(path: Path, text: str) -> int:
    return path.read_text().splitlines().index(text) + 1


def test_a_version_that_is_not_the_sources(realised: TinyProject) -> None:
    edit(realised.root / "recipes/kernel.yml", "version: 1.0.0", "version: 1.0.1")
    said = failure(realised, "version-mismatch")
    assert place(said).startswith("recipes/kernel.yml:")
    assert "1.0.1" in said
    assert "1.0.0" in said


def test_a_symbol_that_was_dropped(realised: TinyProject) -> None:
    edit(realised.root / DEVICES, "CONFIG_NET=y", "# CONFIG_NET is not set")
    said = failure(realised, "config-dropped")
    line = line_of(realised.root / DEVICES, "CONFIG_NET_DRIVER=y")
    assert place(said) == f"{DEVICES}:{line}"
    assert "needs CONFIG_NET" in said
    assert f"10-devices.config:{line_of(realised.root / DEVICES, '# CONFIG_NET is not set')}" in said
    assert "CONFIG_NET_FAST_PATH" in said, "every dropped symbol is listed"


def test_a_symbol_that_does_not_exist(realised: TinyProject) -> None:
    edit(realised.root / GREETING, "CONFIG_REPEAT=2", "CONFIG_REPEAT=2\nCONFIG_HELO=y")
    said = failure(realised, "config-unknown")
    assert place(said) == f"{GREETING}:{line_of(realised.root / GREETING, 'CONFIG_HELO=y')}"
    assert "did you mean CONFIG_HELLO" in said


def test_a_line_that_is_no_setting(realised: TinyProject) -> None:
    edit(realised.root / GREETING, "CONFIG_REPEAT=2", "CONFIG_REPEAT 2")
    found = realised.shell.run("realize", "kernel", status=2)
    assert code(found.stderr) == "recipe-invalid"
    assert place(found.stderr) == f"{GREETING}:{line_of(realised.root / GREETING, 'CONFIG_REPEAT 2')}"


def test_a_patch_that_does_not_apply(realised: TinyProject) -> None:
    edit(realised.root / BUS_PATCH, '-\ttiny_print("bus: found\\n");', '-\ttiny_print("bus: lost\\n");')
    said = failure(realised, "patch-failed")
    assert Path(BUS_PATCH).name in said
    assert "hunk 1 failed at drivers/bus.c, line 2" in said
    assert '-\ttiny_print("bus: lost\\n");' in said, "the reject is shown"
    assert place(said).startswith("patches")


def test_a_patch_that_is_in_the_tree_already(realised: TinyProject) -> None:
    again = realised.root / "patches/0003-again.patch"
    again.write_bytes((realised.root / BUS_PATCH).read_bytes())
    said = failure(realised, "patch-applied")
    assert "0003-again.patch is already in the tree" in said


def test_a_patch_for_a_file_outside_the_tree(realised: TinyProject) -> None:
    edit(realised.root / BUS_PATCH, "+++ b/drivers/bus.c", "+++ b/../../drivers/bus.c")
    assert "outside the tree" in failure(realised, "patch-failed")


def test_a_file_that_does_not_compile(realised: TinyProject) -> None:
    edit(realised.root / GREETING, "CONFIG_REPEAT=2", "CONFIG_REPEAT=2\nCONFIG_BROKEN=y")
    said = failure(realised, "build-failed")
    assert re.search(
        r"the first error is kernel\.patched/drivers/broken\.c:5:\d+: error: .*undeclared_variable", said
    )
    log = realised.shell.run("log", "kernel").stdout
    assert "drivers/broken.c:5" in log
    assert "  CC      init/main.o" in log


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda text: text.replace("base: tinyconfig", "base: nosuchconfig"), 3),
        (lambda text: text.replace("20-greeting.config", "20-greting.config"), 2),
    ],
    ids=["no such make target", "no such fragment"],
)
def test_a_config_that_cannot_be_made(
    realised: TinyProject, change: Callable[[str], str], status: int
) -> None:
    recipe = realised.root / "recipes/kernel.yml"
    recipe.write_text(change(recipe.read_text()))
    found = realised.shell.run("realize", "kernel", status=status)
    assert code(found.stderr) == ("build-failed" if status == 3 else "file-missing")
    if status == 2:
        assert "20-greeting.config" in found.stderr.partition("next:")[2]
