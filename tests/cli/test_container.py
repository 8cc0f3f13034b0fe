"""ccstore in a container of a real Docker daemon, as CI jobs run it: `no-userns` with a remedy that works."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import MAIN, Project, code
from tests.conftest import REPOSITORY
from tests.images import docker_host as docker_host

IMAGE = "ccstore-test:container"
LINKED = ("bin", "lib", "lib64", "sbin")  # links to /usr, or folders of their own


def empty_image() -> bytes:
    """A tar of a root with nothing in it but where to mount this host's programs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as whole:
        for name in ("usr", "etc", "tmp", "proc", "sys", "dev", *LINKED):
            entry = tarfile.TarInfo(name)
            host = Path("/", name)
            if host.is_symlink():
                entry.type, entry.linkname = tarfile.SYMTYPE, str(host.readlink())
            else:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            whole.addfile(entry)
    return buffer.getvalue()


@dataclass
class Container:
    """Runs ccstore of this checkout with this host's Python in a container, where project and store are mounted."""

    docker: list[str]
    environment: dict[str, str]
    project: Project

    def run(self, options: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
        shell = self.project.shell
        folders = {"/usr", sys.prefix, sys.base_prefix, str(REPOSITORY)}
        folders |= {
            f"/{name}" for name in LINKED if Path("/", name).is_dir() and not Path("/", name).is_symlink()
        }
        mounts = [f"--volume={each}:{each}:ro" for each in sorted(folders)]
        mounts += [f"--volume={each}:{each}" for each in (shell.project, shell.store)]
        variables = {
            "HOME": "/tmp",
            "CCSTORE_STORE": str(shell.store),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        env = [f"--env={name}={value}" for name, value in variables.items()]
        command = [
            "run",
            "--rm",
            "--network=none",
            f"--workdir={shell.project}",
            *mounts,
            *env,
            *options,
            IMAGE,
        ]
        return subprocess.run(
            [*self.docker, *command, sys.executable, "-c", MAIN, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture
def container(small: Project, docker_host: str, tool: Callable[[str], str]) -> Iterator[Container]:
    environment = {**os.environ, "DOCKER_HOST": docker_host}
    docker = [tool("docker")]
    importing = [*docker, "import", "-", IMAGE]
    subprocess.run(importing, input=empty_image(), env=environment, check=True, capture_output=True)
    small.script("plain", "echo x > $out")
    small.shell.run("realize", "plain")
    yield Container(docker, environment, small)
    subprocess.run([*docker, "image", "rm", IMAGE], env=environment, check=True, capture_output=True)


def test_a_container_as_docker_starts_it_says_what_it_needs(container: Container) -> None:
    refused = container.run([], "check", "plain")
    assert (refused.returncode, refused.stdout, code(refused.stderr)) == (6, "", "no-userns")
    remedy = re.findall(r"next: .*docker run (.*) …", refused.stderr)
    options = remedy[0].split()
    done = container.run(options, "check", "plain")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("reproduced  plain ")


def test_one_option_alone_is_not_enough(container: Container) -> None:
    for option in ("seccomp=unconfined", "systempaths=unconfined"):
        refused = container.run(["--security-opt", option], "check", "plain")
        assert (refused.returncode, code(refused.stderr)) == (6, "no-userns")
        assert "seccomp=unconfined --security-opt systempaths=unconfined" in refused.stderr
