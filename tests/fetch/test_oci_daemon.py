"""Archives of Docker daemons: those that older and newer ones write, and those that are broken."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from ccstore.codec.nar import nar_hash
from ccstore.model.hashes import Sha256
from tests.fetch.fake_engine import serving
from tests.fetch.puller import IMAGE, Puller
from tests.images import digest, write_layout

CONFIG = Sha256.of(IMAGE.config)


@pytest.fixture
def puller(tmp_path: Path) -> Puller:
    return Puller(tmp_path)


def archive(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return data.getvalue()


def listing(config: str, *layers: str) -> dict[str, bytes]:
    return {"manifest.json": json.dumps([{"Config": config, "RepoTags": None, "Layers": layers}]).encode()}


def classic(**changed: bytes) -> dict[str, bytes]:
    files = {"config.json": IMAGE.config, "0/layer.tar": IMAGE.layers[0], "1/layer.tar": IMAGE.layers[1]}
    return {**files, **listing("config.json", "0/layer.tar", "1/layer.tar"), **changed}


def blob(data: bytes) -> str:
    return f"blobs/sha256/{digest(data)[7:]}"


def pulled(puller: Puller, data: bytes, image_id: Sha256 = CONFIG) -> Sha256:
    with serving(data) as puller.environ["DOCKER_HOST"]:
        return puller.hash("docker-daemon:x", image_id)


def test_old_and_new_daemons_give_the_same(puller: Puller) -> None:
    new = {blob(each): each for each in (IMAGE.config, *IMAGE.layers)}
    new |= listing(blob(IMAGE.config), *map(blob, IMAGE.layers))
    moved = {name: data for name, data in classic().items() if name != "1/layer.tar"}
    linked = archive({**moved, "2/layer.tar": IMAGE.layers[1]}, {"1/layer.tar": "../2/layer.tar"})
    found = {pulled(puller, data) for data in (archive(classic()), archive(new), linked)}
    assert len(found) == 1


def test_an_id_of_a_containerd_store_is_that_of_the_manifest(puller: Puller, tmp_path: Path) -> None:
    files = {blob(data): data for data in IMAGE.blobs().values()}
    files |= listing(blob(IMAGE.config), *map(blob, IMAGE.packed))
    layout = write_layout(tmp_path / "layout", IMAGE.blobs())
    expected = nar_hash(puller.pull("oci:layout", IMAGE.sha256, layout))[0]
    assert pulled(puller, archive(files), IMAGE.sha256) == expected


BROKEN = {
    "another config": ("hash-mismatch", archive({**classic(), "config.json": IMAGE.config + b" "})),
    "another layer": ("hash-mismatch", archive({**classic(), "1/layer.tar": b"other"})),
    "a layer too few": (
        "image-invalid",
        archive({**classic(), **listing("config.json", "0/layer.tar")}),
    ),
    "a layer that is missing": (
        "image-invalid",
        archive({name: data for name, data in classic().items() if name != "1/layer.tar"}),
    ),
    "a link to itself": (
        "image-invalid",
        archive(
            {name: data for name, data in classic().items() if name != "1/layer.tar"},
            {"1/layer.tar": "../1/layer.tar"},
        ),
    ),
    "a link outside": (
        "image-invalid",
        archive(
            {name: data for name, data in classic().items() if name != "1/layer.tar"},
            {"1/layer.tar": "../../../../etc/passwd"},
        ),
    ),
    "no manifest.json": ("image-invalid", archive({"config.json": IMAGE.config})),
    "no list": ("image-invalid", archive({**classic(), "manifest.json": b"{}"})),
    "two images": ("image-invalid", archive({**classic(), "manifest.json": b"[{}, {}]"})),
    "no archive": ("image-invalid", b"\1" * 4096),
    "nothing": ("image-invalid", b""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_archives(puller: Puller, name: str) -> None:
    code, data = BROKEN[name]
    with serving(data) as puller.environ["DOCKER_HOST"]:
        assert puller.refused("docker-daemon:x", CONFIG).code == code


def test_an_archive_that_breaks_off(puller: Puller) -> None:
    data = archive(classic())
    with serving(data, cut=len(data) - 3000) as puller.environ["DOCKER_HOST"]:
        assert puller.refused("docker-daemon:x", CONFIG).code == "image-invalid"


def test_a_silent_daemon_does_not_hold_up_an_interrupt(puller: Puller) -> None:
    interrupt = threading.Timer(0.3, puller.cancel.cancel)
    with serving(b"", silent=True) as puller.environ["DOCKER_HOST"]:
        interrupt.start()
        started = time.monotonic()
        assert puller.refused("docker-daemon:x", CONFIG).code == "interrupted"
        assert time.monotonic() - started < 15


def test_names_of_an_archive_never_reach_the_disk(puller: Puller, tmp_path: Path) -> None:
    names = {"config.json": "../../../config.json", "0/layer.tar": "/0/layer.tar"}
    files = {names.get(name, name): data for name, data in classic().items()}
    files |= listing("../../../config.json", "/0/layer.tar", "1/layer.tar")
    pulled(puller, archive(files))
    assert not (tmp_path / "config.json").exists()
    assert not Path("/0").exists()
