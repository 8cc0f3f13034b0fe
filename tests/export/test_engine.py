"""Into a real Docker Engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ccstore.codec.oci import Reference
from ccstore.errors import CcError
from ccstore.events import ignore
from ccstore.export.archive import image_archive
from ccstore.export.engine import load
from ccstore.export.image import Image
from tests import images
from tests.conftest import REPOSITORY
from tests.export.conftest import layout

NAMES = [Reference.parse("guest/kernel:6.1.x"), Reference.parse("localhost:5000/kernel:v1")]


def test_an_image_is_loaded_under_its_names(image: Image, docker_host: str) -> None:
    import docker

    load(image, NAMES, ignore, {"DOCKER_HOST": docker_host})
    load(image, NAMES, ignore, {"DOCKER_HOST": docker_host})
    client = docker.DockerClient(docker_host)
    found = client.images.get("guest/kernel:6.1.x")
    client.close()
    assert found.id in (image.digest, f"sha256:{image.manifest.config.digest.hex}")
    assert set(found.tags) >= {"guest/kernel:6.1.x", "localhost:5000/kernel:v1"}
    assert found.labels == {"org.opencontainers.image.version": "6.1.176"}


@pytest.fixture
def archive(image: Image, tmp_path: Path) -> Path:
    path = tmp_path / "image.tar"
    path.write_bytes(b"".join(image_archive(image, [Reference.parse("from/archive:v1")])))
    return path


def test_docker_load_reads_the_archive(archive: Path, docker_host: str, tool: Callable[[str], str]) -> None:
    said = subprocess.run(
        [tool("docker"), "load", "--input", str(archive)],
        env={**os.environ, "DOCKER_HOST": docker_host},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "from/archive:v1" in said.stdout


def test_no_daemon_in_ci_is_a_failure_and_no_skip(tmp_path: Path) -> None:
    """The fixture itself, in a pytest of its own whose dockerd cannot start."""
    dockerd = tmp_path / "bin/dockerd"
    dockerd.parent.mkdir()
    dockerd.write_text("#!/bin/sh\necho no cgroups here\nexit 1\n")
    dockerd.chmod(0o755)
    test = f"{__file__}::{test_an_image_is_loaded_under_its_names.__name__}"
    pytest_ = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    env = {**os.environ, "PATH": f"{dockerd.parent}:{os.environ['PATH']}", "CCSTORE_REQUIRE_TOOLS": "1"}
    env.pop("CCSTORE_TEST_DOCKER", None)
    found = subprocess.run(
        [*pytest_, "--basetemp", str(tmp_path / "run"), test],
        cwd=REPOSITORY,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    reason = "no cgroups here" if os.geteuid() == 0 else "root only"
    assert reason in found.stdout
    assert "1 error" in found.stdout.splitlines()[-1]


def test_no_daemon(image: Image, tmp_path: Path) -> None:
    with pytest.raises(CcError) as caught:
        load(image, NAMES, ignore, {"DOCKER_HOST": f"unix://{tmp_path / 'nothing'}"})
    assert caught.value.code == "no-docker"


def test_an_image_that_the_daemon_refuses(tmp_path: Path, docker_host: str) -> None:
    # of a layer that it has already, it would not look at the bytes
    image = Image.read(layout(tmp_path / "new", images.Image([images.layer({"only": b"here"})])), "new")
    image.path(image.manifest.layers[0]).write_bytes(b"no layer")
    with pytest.raises(CcError) as caught:
        load(image, [Reference.parse("damaged/image:v1")], ignore, {"DOCKER_HOST": docker_host})
    assert caught.value.code == "no-docker"
