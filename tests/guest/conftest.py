"""The repository's recipes and a kernel, for tests that boot guests."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import DATA, REPOSITORY, Shell, clone_store, write
from tests.guest.agents import Machine
from tests.guest.initramfs import SmallGuest

_GIT = "https://github.com/hyperhq/hyperstart"


@pytest.fixture(scope="session")
def guests(real_kernel: Shell, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """All recipes of the repository and the tests' own, with one store for all tests that boot guests.

    What makes guests is fetched once, and the kernel built once.
    """
    root = tmp_path_factory.mktemp("guests")
    write(root / "recipes/ccstore.yml", "project: guests\n")
    recipes = [path for path in sorted((REPOSITORY / "recipes").glob("*.yml")) if path.name != "ccstore.yml"]
    recipes += sorted((DATA / "testagent").glob("*.yml"))
    write(
        root / "recipes/imports.yml",
        f"import: [{', '.join(map(str, recipes))}]\nkind: path\npath: ccstore.yml\n",
    )
    return Shell(root, clone_store(real_kernel.store, root / "store"))


@pytest.fixture(scope="session")
def kernel(guests: Shell) -> Path:
    """The vmlinux of this repository."""
    return guests.realize("kernel")[0] / "vmlinux"


@pytest.fixture(scope="session")
def hyperstart(guests: Shell) -> Path:
    """An initramfs with the real agent as PID 1."""
    found = guests.run("realize", "hyperstart-source", status=None)
    if refused := re.search(r"^.*\[(?:unreachable|fetch-stalled)\].*$", found.stderr, re.MULTILINE):
        pytest.skip(
            f"{refused[0].strip()} (with a mirror of {_GIT}, "
            f"`git config --global url.MIRROR.insteadOf {_GIT}` makes this test run)"
        )
    assert found.returncode == 0, found.stderr
    return Path(guests.run("realize", "hyperstart-initramfs", timeout=900).stdout.strip())


@pytest.fixture(scope="session")
def testagent(guests: Shell) -> Path:
    """An initramfs with the tests' own agent as PID 1."""
    return Path(guests.run("realize", "testagent-initramfs").stdout.strip())


@pytest.fixture(scope="session")
def container_root(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root for containers: the host's static busybox, and the files that hyperstart insists on."""
    root = tmp_path_factory.mktemp("container") / "root"
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    busybox = shutil.copy(tool("busybox"), root / "bin/busybox")
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout
    for name in set(listed.split()) - {"busybox"}:
        (root / "bin" / name).symlink_to("busybox")
    write(root / "etc/passwd", "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
    write(root / "etc/group", "root:x:0:\nuser:x:1000:\n")
    return root


@pytest.fixture(scope="session")
def test_machine(tool: Callable[[str], str], kernel: Path, testagent: Path) -> Machine:
    """A guest with the tests' own agent."""
    return Machine(tool("qemu-system-x86_64"), kernel, testagent)


@pytest.fixture(scope="session")
def small_guest(tool: Callable[[str], str], guests: Shell, kernel: Path) -> SmallGuest:
    """Our init and crun, and busybox as the root of every container."""
    init, crun, busybox = (
        Path(line) for line in guests.run("realize", "guest-init", "crun", "container-root").stdout.split()
    )
    return SmallGuest(tool("qemu-system-x86_64"), kernel, (init, crun), busybox)
