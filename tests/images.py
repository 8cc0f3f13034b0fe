"""Images to fetch and export, and the real things that they go to: Debian's registry, a Docker daemon.

Both are started by the tests themselves, on loopback and on a private socket, with folders of their own.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from ccstore.codec.oci import (
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    canonical_json,
)
from ccstore.model.hashes import Sha256
from tests.conftest import unmet, unmount_below

DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def layer(files: Mapping[str, bytes]) -> bytes:
    """An uncompressed layer with these files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Image:
    """An image and its blobs by digest; `extra` changes the manifest."""

    layers: list[bytes]
    docker: bool = False
    compressed: bool = True
    architecture: str = "amd64"
    extra: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> bytes:
        diff_ids = [digest(each) for each in self.layers]
        return canonical_json(
            {
                "architecture": self.architecture,
                "os": "linux",
                "config": {"Labels": dict(self.labels)},
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
            }
        )

    @property
    def packed(self) -> list[bytes]:
        return [gzip.compress(each, mtime=0) if self.compressed else each for each in self.layers]

    @property
    def manifest(self) -> bytes:
        layer_type = DOCKER_LAYER if self.docker else OCI_LAYER + ("+gzip" if self.compressed else "")
        value = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": descriptor(self.config, DOCKER_CONFIG if self.docker else OCI_CONFIG),
            "layers": [descriptor(each, layer_type) for each in self.packed],
        }
        return json.dumps({**value, **self.extra}, indent=3).encode()  # canonical to nobody

    @property
    def media_type(self) -> str:
        return DOCKER_MANIFEST if self.docker else OCI_MANIFEST

    @property
    def sha256(self) -> Sha256:
        return Sha256.of(self.manifest)

    def blobs(self) -> dict[str, bytes]:
        return {digest(each): each for each in (self.manifest, self.config, *self.packed)}


def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


def index(*images: Image, attested: bool = False) -> bytes:
    """An index of images for their own platforms, and of an attestation, as some builders add one."""
    entries = [
        {
            **descriptor(each.manifest, each.media_type),
            "platform": {"os": "linux", "architecture": each.architecture},
        }
        for each in images
    ]
    if attested:
        nothing = {"os": "unknown", "architecture": "unknown"}
        entries.insert(0, {**descriptor(b"{}", OCI_MANIFEST), "platform": nothing})
    return canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})


def write_layout(folder: Path, blobs: Mapping[str, bytes]) -> Path:
    """A layout as other tools leave it: blobs, and an index.json that names things."""
    place = folder / "blobs/sha256"
    place.mkdir(parents=True)
    for name, data in blobs.items():
        (place / name.removeprefix("sha256:")).write_bytes(data)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}\n')
    (folder / "index.json").write_text('{"schemaVersion": 2, "manifests": []}\n')
    return folder


def upload(base: str, repository: str, image: Image, *more: bytes) -> None:
    """Puts an image into a registry, and `more` indexes on top; by no code of ours."""
    with httpx.Client(base_url=f"{base}/v2/{repository}/", timeout=10) as client:
        for data in (image.config, *image.packed):
            place = client.post("blobs/uploads/").raise_for_status().headers["Location"]
            joint = "&" if "?" in place else "?"
            client.put(f"{place}{joint}digest={digest(data)}", content=data).raise_for_status()
        for data, kind in ((image.manifest, image.media_type), *((each, OCI_INDEX) for each in more)):
            headers = {"Content-Type": kind}
            client.put(f"manifests/{digest(data)}", content=data, headers=headers).raise_for_status()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


REGISTRY = """version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@dataclass(frozen=True)
class Served:
    """A running registry: `name` is host and port."""

    name: str
    log: Path

    @property
    def url(self) -> str:
        return f"http://{self.name}"

    def requests(self) -> list[tuple[str, str]]:
        """Method and path of each request so far."""
        found = []
        for line in self.log.read_text().splitlines():
            if "response completed" in line:
                words = dict(part.partition("=")[::2] for part in line.split() if "=" in part)
                found.append((words["http.request.method"], words["http.request.uri"].strip('"')))
        return found


@contextmanager
def registry(program: str, folder: Path) -> Iterator[Served]:
    """Debian's docker-registry on a port of loopback."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yml").write_text(REGISTRY.format(folder=folder / "data", port=port))
    served = Served(f"127.0.0.1:{port}", folder / "log")
    with (
        served.log.open("wb") as log,
        _running([program, "serve", str(folder / "config.yml")], log) as process,
    ):
        _until(process, lambda: httpx.get(f"{served.url}/v2/", timeout=2).status_code == 200)
        yield served


@contextmanager
def daemon(program: str, folder: Path) -> Iterator[str]:
    """A Docker daemon without network, with folders of its own; gives its DOCKER_HOST. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    address = f"unix://{folder / 'sock'}"
    command = [
        *(program, "--config-file", str(folder / "config.json"), "--host", address),
        *("--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")),
        *("--pidfile", str(folder / "pid"), f"--storage-driver={_storage_driver(folder)}", "--bridge=none"),
        *("--iptables=false", "--ip6tables=false", "--ip-forward=false"),
    ]
    transport = httpx.HTTPTransport(uds=str(folder / "sock"))
    with (
        _unmounted(folder),
        (folder / "log").open("wb") as log,
        _running(command, log) as process,
        httpx.Client(transport=transport, timeout=5) as client,
    ):
        try:
            _until(process, lambda: client.get("http://docker/_ping").status_code == 200)
        except OSError as error:
            said = (folder / "log").read_text().splitlines() or [str(error)]
            raise OSError(said[-1]) from error
        yield address


@contextmanager
def _unmounted(folder: Path) -> Iterator[None]:
    """In the end nothing is mounted below `folder`: a daemon leaves the namespace of the host's network there."""
    try:
        yield
    finally:
        unmount_below(folder)


def _storage_driver(folder: Path) -> str:
    """An overlay cannot lie on an overlay, which is what a container's own files are."""
    found = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True)
    return "vfs" if found.stdout.strip() == "overlayfs" else "overlay2"


@contextmanager
def _running(command: list[str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    # a terminal's Ctrl-C is for pytest; what it then does with us is below
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _until(process: subprocess.Popen[bytes], ready: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise OSError(f"{process.args!r} ended with {process.returncode}")
        try:
            if ready():
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(0.05)
    raise OSError(f"{process.args!r} did not answer within {seconds} s")


@pytest.fixture(scope="session")
def served(tool: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with registry(tool("docker-registry"), tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session")
def docker_host(tool: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """DOCKER_HOST of the daemon in CCSTORE_TEST_DOCKER, which nobody else should use meanwhile, or of one of our own;
    where none can start, skips (in CI: fails) and says why."""
    if given := os.environ.get("CCSTORE_TEST_DOCKER"):
        yield given
        return
    program = tool("dockerd")
    if os.geteuid() != 0:
        unmet("dockerd starts as root only: name a daemon of your own in CCSTORE_TEST_DOCKER")
    try:
        with daemon(program, tmp_path_factory.mktemp("docker")) as address:
            yield address
    except OSError as error:
        unmet(f"no Docker daemon can start here: {error}")
