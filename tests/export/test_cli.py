"""`ccstore export` and `ccstore runtime-config` as a user runs them."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ccstore.codec.nar import nar_hash
from tests.conftest import CCSTORE, Shell, TinyProject, clone_store, tiny_project, write
from tests.export.conftest import SAMPLE, layout
from tests.images import Served

DIGEST = f"sha256:{SAMPLE.sha256.hex}\n"


@pytest.fixture
def project(tmp_path: Path) -> Shell:
    """A project whose one recipe is an image in its folder."""
    root = tmp_path / "project"
    layout(root / "image", SAMPLE)
    write(root / "recipes/ccstore.yml", "project: export\n")
    write(root / "recipes/vm.yml", "kind: path\npath: ../image\n")
    return Shell(root, tmp_path / "store", {"HOME": str(tmp_path)})


def test_to_docker(project: Shell, docker_host: str) -> None:
    import docker

    project.environment["DOCKER_HOST"] = docker_host
    done = project.run("export", "vm", "--to", "docker", "--tag", "linuxkit/kernel-clear-containers")
    assert done.stdout == DIGEST
    short = SAMPLE.sha256.hex[:12]
    assert f"loaded linuxkit/kernel-clear-containers:6.1.176-{short}\n" in done.stderr
    client = docker.DockerClient(docker_host)
    found = client.images.get("linuxkit/kernel-clear-containers:6.1.x")
    client.close()
    assert f"linuxkit/kernel-clear-containers:6.1.176-{short}" in found.tags


def test_to_a_registry_and_again(project: Shell, served: Served) -> None:
    line = ("export", "vm", "--to", "registry", "--tag", f"{served.name}/cli/vm:{{version}}-x", "--json")
    value = json.loads(project.run(*line).stdout)
    assert value == {"digest": DIGEST.strip(), "names": [f"{served.name}/cli/vm:6.1.176-x"]}
    again = project.run(*line)
    assert json.loads(again.stdout) == value
    assert again.stderr.count("is there already") == 3


def test_to_files(project: Shell, tmp_path: Path) -> None:
    assert project.run("export", "vm", "--to", "oci", "-o", str(tmp_path / "oci")).stdout == DIGEST
    archive = str(tmp_path / "oci.tar")
    assert project.run("export", "vm", "--to", "oci-archive", "-o", archive).stdout == DIGEST
    with tarfile.open(archive) as tar:
        assert "index.json" in tar.getnames()
    folder = tmp_path / "folder"
    assert project.run("export", "vm", "--to", "directory", "-o", str(folder)).stdout == f"{folder}\n"
    assert nar_hash(folder) == nar_hash(project.project / "image")
    done = project.run("export", "vm", "--to", "directory", "-o", str(folder), status=2)
    assert "[output-exists]" in done.stderr


def test_an_archive_to_stdout(project: Shell) -> None:
    done = subprocess.run(
        [CCSTORE, "--store", str(project.store), "export", "vm", "--to", "tar", "--output", "-"],
        cwd=project.project,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2  # --store belongs to the verb
    done = subprocess.run(
        [CCSTORE, "export", "vm", "--store", str(project.store), "--to", "tar", "--output", "-"],
        cwd=project.project,
        capture_output=True,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        assert "oci-layout" in tar.getnames()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--to", "oci"), "--output"),
        (("--to", "docker", "--output", "x"), "--output"),
        (("--to", "oci", "--output", "-"), "stdout"),
        (("--to", "oci-archive", "--output", "-", "--json"), "stdout"),
        (("--to", "registry"), "--tag"),
        (("--to", "tar", "--output", "x", "--tag", "x"), "--tag"),
        (("--to", "oci", "--output", "x", "--tag", "UPPER"), "UPPER"),
    ],
)
def test_options_that_do_not_go_together(project: Shell, words: tuple[str, ...], named: str) -> None:
    done = project.run("export", "vm", *words, status=2)
    assert "[usage]" in done.stderr
    assert named in done.stderr
    assert done.stdout == ""


def test_no_daemon(project: Shell, tmp_path: Path) -> None:
    project.environment["DOCKER_HOST"] = f"unix://{tmp_path / 'nothing'}"
    done = project.run("export", "vm", "--to", "docker", status=6)
    assert "[no-docker]" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_no_image(project: Shell, tmp_path: Path) -> None:
    write(project.project / "recipes/text.yml", "kind: path\npath: ccstore.yml\n")
    done = project.run("export", "text", "--to", "oci", "-o", str(tmp_path / "x"), status=2)
    assert "[not-an-image]" in done.stderr
    assert not (tmp_path / "x").exists()
    done = project.run("runtime-config", "text", "--for", "kata", status=2)
    assert "[not-bootable]" in done.stderr
    assert done.stdout == ""
    write(project.project / "broken/boot.json", "{}")
    write(project.project / "recipes/broken.yml", "kind: path\npath: ../broken\n")
    done = project.run("runtime-config", "broken", "--for", "kata", status=4)
    assert "[boot-invalid]" in done.stderr


@pytest.fixture
def export_kernel(tmp_path: Path) -> Callable[[Shell, str], str]:
    def export(shell: Shell, name: str) -> str:
        return shell.run("export", "kernel", "--to", "oci", "-o", str(tmp_path / name)).stdout

    return export


def test_a_kernel_has_the_same_digest_everywhere(
    session_kernel: TinyProject,
    session_store: Path,
    tmp_path: Path,
    export_kernel: Callable[[Shell, str], str],
) -> None:
    root = tmp_path / "another-place"
    other = tiny_project(root, clone_store(session_store, root / "store"))
    digest = export_kernel(session_kernel.shell, "one")
    assert digest.startswith("sha256:")
    assert export_kernel(other.shell, "two") == digest
    assert nar_hash(tmp_path / "one") == nar_hash(tmp_path / "two")


BOOT = {
    "version": 1,
    "name": "vm",
    "format": "vmlinux+pmem",
    "kernel": "vmlinux",
    "initrd": None,
    "disk": {"file": "root.img", "device": "pmem"},
    "cmdline": "quiet root=/dev/pmem0p1",
    "machine": "q35",
    "memory": "256M",
    "agent": "hyperstart",
    "verity": None,
}


def test_runtime_config(project: Shell, tmp_path: Path) -> None:
    boot = project.project / "boot"
    write(boot / "boot.json", json.dumps(BOOT))
    for name in ("vmlinux", "root.img"):
        write(boot / name, name)
    write(project.project / "recipes/guest.yml", "kind: path\npath: ../boot\n")
    line = ("runtime-config", "guest", "--for", "cc-oci-runtime")
    kernel = json.loads(project.run(*line).stdout)["vm"]["kernel"]["path"]
    assert kernel == f"{project.path('guest')}/vmlinux"
    assert "virtserialport" in project.run(*line, "--file", "hypervisor.args").stdout
    assert "[usage]" in project.run(*line, "--file", "other", status=2).stderr
    written = project.run(*line, "--output", str(tmp_path / "etc")).stdout.splitlines()
    assert [Path(each).name for each in written] == ["vm.json", "hypervisor.args"]
    assert "[output-exists]" in project.run(*line, "--output", str(tmp_path / "etc"), status=2).stderr
