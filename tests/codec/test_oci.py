"""Names of images, and what a manifest may say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccstore.codec.oci import (
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Reference,
    choose,
    index_json,
    parse_config,
    parse_index,
    parse_manifest,
)
from ccstore.errors import CcError
from ccstore.model.hashes import Sha256
from tests.images import Image, index, layer

HEX = "ab" * 32
IMAGE = Image([layer({"a": b"1"}), layer({"b": b"2"})])


@pytest.mark.parametrize(
    ("text", "place", "registry", "repository", "tag"),
    [
        ("busybox", "registry", "docker.io", "library/busybox", None),
        ("docker://busybox:1.36", "registry", "docker.io", "library/busybox", "1.36"),
        ("docker.io/busybox", "registry", "docker.io", "library/busybox", None),
        ("linuxkit/init:v1", "registry", "docker.io", "linuxkit/init", "v1"),
        ("localhost/x", "registry", "localhost", "x", None),
        ("localhost:5000/a/b:v1", "registry", "localhost:5000", "a/b", "v1"),
        ("[::1]:5000/x", "registry", "[::1]:5000", "x", None),
        ("ghcr.io/owner/some__name-1.x", "registry", "ghcr.io", "owner/some__name-1.x", None),
        ("docker-daemon:guest/kernel:6.1", "daemon", "", "guest/kernel", "6.1"),
    ],
)
def test_references(text: str, place: str, registry: str, repository: str, tag: str | None) -> None:
    found = Reference.parse(f"{text}@sha256:{HEX}")
    assert (found.place, found.registry, found.repository, found.tag) == (place, registry, repository, tag)
    assert found.digest == Sha256.parse(HEX)
    assert Reference.parse(text).digest is None
    assert Reference.parse(str(found)) == found


def test_a_layout_keeps_its_folder_as_it_is_written() -> None:
    found = Reference.parse(f"oci:../images/Some Dir:v1@sha256:{HEX}")
    assert (found.place, found.layout, found.tag) == ("layout", "../images/Some Dir", "v1")
    assert Reference.parse("oci:./x:y/z").layout == "./x:y/z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "oci:",
        "UPPER/case",
        "a//b",
        "a/../b",
        "x@sha256:abc",
        "x@md5:abc",
        f"x@sha256:{HEX.upper()}",
        "x:tag with space",
        "-host.example/x",
        "a.b:99999999/x",
        "x:" + "t" * 129,
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Reference.parse(text)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = Reference.parse(text)
    except ValueError:
        return
    assert Reference.parse(str(found)) == found


def test_manifests_of_both_kinds() -> None:
    for docker in (False, True):
        image = Image(IMAGE.layers, docker=docker)
        found = parse_manifest(image.manifest, "it")
        assert found.media_type == image.media_type
        assert [each.size for each in found.layers] == [len(each) for each in image.packed]
        assert parse_index(image.manifest, "it") is None
        assert parse_config(image.config, "it") == tuple(map(Sha256.of, image.layers))


def test_a_manifest_need_not_say_what_it_is() -> None:
    value = json.loads(IMAGE.manifest)
    del value["mediaType"]
    assert parse_manifest(json.dumps(value).encode(), "it").media_type == OCI_MANIFEST


def test_a_blob_that_occurs_twice_is_one() -> None:
    image = Image([IMAGE.layers[0]] * 3)
    assert len(parse_manifest(image.manifest, "it").blobs()) == 2


def test_of_an_index_our_platform_is_taken() -> None:
    other = Image(IMAGE.layers, architecture="arm64")
    entries = parse_index(index(other, IMAGE, attested=True), "it")
    assert entries
    assert choose(entries, "it").digest == IMAGE.sha256
    with pytest.raises(CcError) as caught:
        choose([each for each in entries if each.platform != "linux/amd64"], "it")
    assert caught.value.code == "platform-missing"
    assert "linux/arm64" in caught.value.details[0]


def test_the_index_of_a_layout_is_golden() -> None:
    found = index_json(Descriptor(OCI_MANIFEST, Sha256.parse(HEX), 7))
    assert found == (
        b'{"manifests":[{"digest":"sha256:'
        + HEX.encode()
        + b'","mediaType":"'
        + OCI_MANIFEST.encode()
        + b'",'
        b'"platform":{"architecture":"amd64","os":"linux"},"size":7}],"mediaType":"'
        + OCI_INDEX.encode()
        + b'","schemaVersion":2}'
    )


SCHEMA_1 = {"mediaType": "application/vnd.docker.distribution.manifest.v1+json"}
FOREIGN = {
    "layers": [
        {
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": f"sha256:{HEX}",
            "size": 1,
        }
    ]
}


@pytest.mark.parametrize(
    "extra",
    [
        SCHEMA_1,
        FOREIGN,
        {"layers": None},
        {"layers": [3]},
        {"config": {}},
        {"config": {"mediaType": "x", "digest": "sha256:../../x", "size": 1}},
        {"config": {"mediaType": "x", "digest": f"sha512:{HEX}", "size": 1}},
        {"config": {"mediaType": "x", "digest": f"sha256:{HEX}", "size": -1}},
        {"config": {"mediaType": "x", "digest": f"sha256:{HEX}", "size": True}},
    ],
)
def test_manifests_that_are_refused(extra: dict[str, object]) -> None:
    with pytest.raises(CcError) as caught:
        parse_manifest(Image(IMAGE.layers, extra=extra).manifest, "it")
    assert caught.value.code == "image-invalid"


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_manifest(data: bytes) -> None:
    for parse in (parse_manifest, parse_config):
        with pytest.raises(CcError) as caught:
            parse(data, "it")
        assert caught.value.code in ("image-invalid", "platform-missing")
