from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccstore.codec.oci import LAYOUT_FILE, Descriptor, index_json
from ccstore.export.image import Image
from ccstore.model.storepath import StorePath
from ccstore.ports import Tree
from ccstore.store.store import Store
from tests import images
from tests.images import docker_host as docker_host
from tests.images import layer, write_layout
from tests.images import served as served


def layout(folder: Path, image: images.Image) -> Path:
    """The canonical layout of an image."""
    write_layout(folder, image.blobs())
    (folder / "oci-layout").write_bytes(LAYOUT_FILE)
    descriptor = Descriptor(image.media_type, image.sha256, len(image.manifest))
    (folder / "index.json").write_bytes(index_json(descriptor))
    return folder


SAMPLE = images.Image(
    [layer({"kernel": os.urandom(200_000)}), layer({"kernel.tar": b"modules"})],
    labels={"org.opencontainers.image.version": "6.1.176"},
)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image.read(layout(tmp_path / "layout", SAMPLE), "sample")


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """A store object with a program, a link and an awkward name."""
    folder = tmp_path / "object"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/tool").write_text("#!/bin/sh\n")
    (folder / "bin/tool").chmod(0o755)
    (folder / "bin/link").symlink_to("tool")
    (folder / ("long " * 30)).write_bytes(b"x" * 1000)
    (folder / "ünï").write_text("")
    (folder / os.fsdecode(b"\xff not UTF-8")).write_text("")
    with Store.open(tmp_path / "store") as store, store.session() as session:
        path: StorePath = session.add(folder, "sample").path
        yield store.objects.tree(path)
