"""Images by digest: from Debian's registry, a layout, a Docker daemon; the same image is the same object."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from ccstore.codec.nar import nar_hash
from ccstore.codec.oci import blob_path, parse_manifest
from ccstore.events import ignore
from ccstore.fetch.fetch import fetch
from ccstore.fetch.mirrors import Mirrors
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import Fetch, OciSource
from ccstore.model.hashes import Sha256
from ccstore.ports import Cancel
from tests.fetch.puller import IMAGE, Puller
from tests.images import Image, Served, digest, index, layer, upload, write_layout


@pytest.fixture
def puller(tmp_path: Path) -> Puller:
    return Puller(tmp_path)


def test_an_image_from_a_registry_is_a_canonical_layout(puller: Puller, served: Served) -> None:
    upload(served.url, "guest/image", IMAGE)
    layout = puller.pull(f"{served.name}/guest/image", IMAGE.sha256)
    assert {digest(path.read_bytes()) for path in (layout / "blobs/sha256").iterdir()} == IMAGE.blobs().keys()
    assert all(path.name == digest(path.read_bytes())[7:] for path in (layout / "blobs/sha256").iterdir())
    assert (layout / "oci-layout").read_text() == '{"imageLayoutVersion":"1.0.0"}'
    assert json.loads((layout / "index.json").read_text())["manifests"] == [
        {
            "mediaType": IMAGE.media_type,
            "digest": f"sha256:{IMAGE.sha256.hex}",
            "size": len(IMAGE.manifest),
            "platform": {"os": "linux", "architecture": "amd64"},
        }
    ]
    assert puller.left == []


@pytest.mark.parametrize("docker", [False, True])
def test_where_an_image_came_from_leaves_no_trace(
    puller: Puller, served: Served, tmp_path: Path, docker: bool
) -> None:
    image = Image(IMAGE.layers, docker=docker)
    both = index(Image(IMAGE.layers, architecture="arm64"), image)
    layout = write_layout(tmp_path / "layout", {**image.blobs(), digest(both): both})
    upload(served.url, "guest/a", image)
    upload(served.url, "guest/b", Image(IMAGE.layers, architecture="arm64"))
    upload(served.url, "guest/b", image, both)
    found = {
        puller.hash(f"{served.name}/guest/a", image.sha256),
        puller.hash(f"docker://{served.name}/guest/b:v1", image.sha256),
        puller.hash(f"{served.name}/guest/b", Sha256.of(both)),
        puller.hash("oci:../layout", image.sha256, layout),
        puller.hash("oci:elsewhere:v1", Sha256.of(both), layout),
    }
    assert len(found) == 1


def test_the_call_for_every_download_knows_images(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", IMAGE.blobs())
    source = OciSource(f"oci:layout@sha256:{IMAGE.sha256.hex}", layout)
    step = Fetch("image", FixedOutput("image", "oci", IMAGE.sha256), source, "recipes/guest.yml:3:5")
    (tmp_path / "scratch").mkdir()
    fetch(
        step,
        tmp_path / "to",
        mirrors=Mirrors({}),
        partials=tmp_path / "partials",
        scratch=tmp_path / "scratch",
        sink=ignore,
        cancel=Cancel(),
    )
    assert blob_path(tmp_path / "to", IMAGE.sha256).read_bytes() == IMAGE.manifest


def saved(image: Image) -> bytes:
    """The archive that `docker load` reads."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        add("config.json", image.config)
        names = [f"{number}.tar" for number in range(len(image.layers))]
        for name, content in zip(names, image.layers, strict=True):
            add(name, content)
        entry = {"Config": "config.json", "RepoTags": ["guest/saved:v1"], "Layers": names}
        add("manifest.json", json.dumps([entry]).encode())
    return data.getvalue()


def test_an_image_of_a_docker_daemon(puller: Puller, docker_host: str) -> None:
    import docker

    image = Image([*IMAGE.layers, IMAGE.layers[0]])  # Docker saves a layer that occurs twice as a link
    client = docker.DockerClient(docker_host)
    [loaded] = client.images.load(saved(image))
    client.close()
    puller.environ["DOCKER_HOST"] = docker_host
    image_id = Sha256.parse(loaded.id)
    assert image_id == Sha256.of(image.config)
    layout = puller.pull("docker-daemon:guest/saved", image_id)
    [entry] = json.loads((layout / "index.json").read_text())["manifests"]
    manifest = parse_manifest(blob_path(layout, Sha256.parse(entry["digest"])).read_bytes(), "it")
    assert manifest.config.digest == image_id
    assert [blob_path(layout, each.digest).read_bytes() for each in manifest.layers] == image.layers
    assert nar_hash(layout)[0] == puller.hash("docker-daemon:other/name:v2", image_id)
    # what the daemon gave is an image like any other: by the digest of its manifest it is the same object
    again = puller.pull("oci:x", Sha256.parse(entry["digest"]), layout)
    assert nar_hash(again)[0] == nar_hash(layout)[0]


def test_an_image_that_the_daemon_lacks(puller: Puller, docker_host: str) -> None:
    puller.environ["DOCKER_HOST"] = docker_host
    error = puller.refused("docker-daemon:guest/saved", Sha256.of(b"no image"))
    assert error.code == "image-missing"


def test_no_daemon(puller: Puller, tmp_path: Path) -> None:
    puller.environ["DOCKER_HOST"] = f"unix://{tmp_path / 'nothing'}"
    error = puller.refused("docker-daemon:guest/saved")
    assert error.code == "no-docker"
    assert "DOCKER_HOST" in (error.hint or "")


def test_a_layer_that_occurs_twice_is_one_blob(tmp_path: Path) -> None:
    image = Image([layer({"a": b"1"})] * 2)
    layout = write_layout(tmp_path / "layout", image.blobs())
    found = Puller(tmp_path).pull("oci:layout", image.sha256, layout)
    assert len(list((found / "blobs/sha256").iterdir())) == 3
