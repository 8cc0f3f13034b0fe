"""The three guest images of this repository, as a user has them: realised, booted in every format, with a container.

Where the real agent's repository can be reached, it is the real agent, and the images' store paths are golden values.
Where it cannot, it is the tests' own agent in its place, in fewer formats; all the rest is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Shell, write
from tests.formats import BOOTABLE

VARIANTS = ("clear-containers", "clear-containers-minimal", "clear-containers-systemd")
GOLDEN = Path(__file__).with_name("variants.golden")
PATIENCE = 180  # seconds, for a guest under software emulation on a busy machine
OWN_AGENT = """kind: build
toolchain: toolchain
inputs:
  agent: testagent
script: |
  mkdir -p "$out"/usr/bin
  cp /in/agent/init "$out"/usr/bin/hyperstart
"""
FEWER = [("clear-containers", each) for each in BOOTABLE] + [
    (variant, each) for variant in VARIANTS[1:] for each in ("vmlinux+initrd", "vmlinux+erofs+verity")
]


@pytest.fixture(scope="module")
def with_real_agent(guests: Shell, hyperstart: Path, kernel: Path, tool: Callable[[str], str]) -> Shell:
    tool("qemu-system-x86_64")
    return guests


@pytest.fixture(scope="module")
def with_own_agent(
    guests: Shell,
    testagent: Path,
    kernel: Path,
    tool: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Shell:
    """The same recipes, but for that of the agent."""
    tool("qemu-system-x86_64")
    root = tmp_path_factory.mktemp("own-agent")
    skipped = {REPOSITORY / "recipes" / name for name in ("ccstore.yml", "hyperstart.yml")}
    recipes = [path for path in sorted((REPOSITORY / "recipes").glob("*.yml")) if path not in skipped]
    recipes.append(REPOSITORY / "tests/data/testagent/testagent.yml")
    write(root / "recipes/ccstore.yml", "project: own-agent\n")
    write(root / "recipes/hyperstart.yml", f"import: [{', '.join(map(str, recipes))}]\n{OWN_AGENT}")
    return Shell(root, guests.store)


def files_of(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def runs_a_container(shell: Shell, target: str) -> None:
    """Boots it, has a command's output and status, and leaves every file as it was."""
    [folder] = shell.realize(target)
    before = files_of(folder)
    done = shell.run("run", target, "--", "sh", "-c", "echo hello; exit 7", status=7, timeout=PATIENCE)
    assert done.stdout == "hello\n"
    assert files_of(folder) == before


@pytest.mark.parametrize(("variant", "format"), FEWER)
def test_it_runs_a_container(with_own_agent: Shell, variant: str, format: str) -> None:
    runs_a_container(with_own_agent, f"{variant}.{format}")


def test_the_readmes_own_guest_says_hello(with_own_agent: Shell) -> None:
    done = with_own_agent.run("run", "hello", timeout=PATIENCE)
    assert "hello from a guest" in done.stdout


@pytest.mark.parametrize("format", BOOTABLE)
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_runs_a_container_with_hyperstart(with_real_agent: Shell, variant: str, format: str) -> None:
    runs_a_container(with_real_agent, f"{variant}.{format}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_the_same_everywhere(with_real_agent: Shell, variant: str, accept: bool) -> None:
    known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    found = {each: with_real_agent.realize(f"{variant}.{each}")[0].name for each in (*BOOTABLE, "tar", "oci")}
    if accept:
        GOLDEN.write_text(json.dumps(known | {variant: found}, indent=1, sort_keys=True) + "\n")
        return
    assert found == known[variant]
