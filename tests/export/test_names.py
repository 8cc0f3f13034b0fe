"""What an exported image is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.export.image import Image, familiar, names
from tests.export.conftest import SAMPLE, layout
from tests.images import Image as Sample

HASH = SAMPLE.sha256.hex[:12]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([], [f"kernel:6.1.176-{HASH}", "kernel:6.1.x"]),
        (["guest/kernel"], [f"guest/kernel:6.1.176-{HASH}", "guest/kernel:6.1.x"]),
        (["localhost:5000/kernel:v1"], ["localhost:5000/kernel:v1"]),
        (["a:{version}-{hash}", "b:{series}", "a:{version}-{hash}"], [f"a:6.1.176-{HASH}", "b:6.1.x"]),
    ],
)
def test_names(image: Image, wanted: list[str], found: list[str]) -> None:
    assert [familiar(each) for each in names(image, "kernel", wanted)] == found


def test_an_image_without_a_version(tmp_path: Path) -> None:
    plain = Sample(SAMPLE.layers)
    image = Image.read(layout(tmp_path / "layout", plain), "plain")
    assert [familiar(each) for each in names(image, "guest", [])] == [
        f"guest:{plain.sha256.hex[:12]}",
        "guest:latest",
    ]
    with pytest.raises(CcError) as caught:
        names(image, "guest", ["guest:{version}"])
    assert caught.value.code == "usage"
    assert "{hash}" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "tag", ["UPPER", "a:b c", "oci:dir", "docker-daemon:x", f"x@sha256:{'0' * 64}", "a:{x}", ""]
)
def test_what_is_no_name(image: Image, tag: str) -> None:
    with pytest.raises(CcError) as caught:
        names(image, "kernel", [tag])
    assert caught.value.code == "usage"


def test_an_image_that_lacks_something(tmp_path: Path) -> None:
    for blob in SAMPLE.blobs():
        folder = layout(tmp_path / blob, SAMPLE)
        (folder / "blobs/sha256" / blob[7:]).unlink()
        with pytest.raises(CcError) as caught:
            Image.read(folder, "it")
        assert caught.value.code == "image-invalid"
        assert blob in caught.value.message


def test_a_manifest_that_was_changed(tmp_path: Path) -> None:
    folder = layout(tmp_path / "layout", SAMPLE)
    (folder / "blobs/sha256" / SAMPLE.sha256.hex).write_bytes(SAMPLE.manifest + b" ")
    with pytest.raises(CcError) as caught:
        Image.read(folder, "it")
    assert caught.value.code == "image-invalid"


def test_what_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(CcError) as caught:
        Image.read(tmp_path, "nothing")
    assert caught.value.code == "not-an-image"
