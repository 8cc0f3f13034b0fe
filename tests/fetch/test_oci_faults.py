"""Images that are damaged, missing, private or slow: one clear code each, and nothing half done."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ccstore.codec.oci import canonical_json
from ccstore.errors import CcError
from ccstore.fetch import oci_registry
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import OciSource
from ccstore.model.hashes import Sha256
from tests.fetch.bench import closed_port
from tests.fetch.hub import TOKEN, Hub, running
from tests.fetch.puller import IMAGE, Puller
from tests.images import Image, Served, digest, index, upload, write_layout

LAYER = digest(IMAGE.packed[1])
BLOBS = IMAGE.blobs()


@pytest.fixture
def puller(tmp_path: Path) -> Puller:
    return Puller(tmp_path)


def test_what_the_registry_lacks(puller: Puller, served: Served) -> None:
    upload(served.url, "guest/there", IMAGE)
    error = puller.refused(f"{served.name}/guest/there", Sha256.of(b"another"))
    assert error.code == "image-missing"
    assert "404" in error.details[0]
    assert puller.refused(f"{served.name}/guest/elsewhere").code == "image-missing"
    assert puller.left == []


def test_no_registry(puller: Puller) -> None:
    error = puller.refused(f"127.0.0.1:{closed_port()}/x")
    assert error.code == "unreachable"


@pytest.mark.parametrize("part", [IMAGE.manifest, IMAGE.config, IMAGE.packed[1]])
def test_a_corrupt_blob_of_a_registry(puller: Puller, part: bytes) -> None:
    damaged = part[:-1] + bytes([part[-1] ^ 1])
    with running(Hub({**BLOBS, digest(part): damaged})) as hub:
        error = puller.refused(f"{hub.name}/x")
    assert error.code == "hash-mismatch"
    assert error.details == (f"wanted {digest(part)}", f"got    {digest(damaged)}")


@pytest.mark.parametrize("part", [IMAGE.manifest, IMAGE.config, IMAGE.packed[1]])
def test_a_corrupt_blob_of_a_layout(puller: Puller, tmp_path: Path, part: bytes) -> None:
    damaged = part[:-1] + bytes([part[-1] ^ 1])
    layout = write_layout(tmp_path / "layout", {**BLOBS, digest(part): damaged})
    assert puller.refused("oci:layout", layout=layout).code == "hash-mismatch"


def test_a_layer_that_goes_on_and_on(puller: Puller, tmp_path: Path) -> None:
    longer = {**BLOBS, LAYER: IMAGE.packed[1] + b"more"}
    with running(Hub(longer)) as hub:
        assert puller.refused(f"{hub.name}/x").code == "image-invalid"
    layout = write_layout(tmp_path / "layout", longer)
    assert puller.refused("oci:layout", layout=layout).code == "image-invalid"


def test_a_layout_that_lacks_a_blob(puller: Puller, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", {name: data for name, data in BLOBS.items() if name != LAYER})
    error = puller.refused("oci:layout", layout=layout)
    assert error.code == "image-missing"
    assert LAYER in error.message
    assert puller.refused("oci:x", layout=tmp_path / "nothing").code == "image-missing"


def test_a_blob_that_is_no_file(puller: Puller, tmp_path: Path) -> None:
    import os

    layout = write_layout(tmp_path / "layout", BLOBS)
    path = layout / "blobs/sha256" / LAYER[7:]
    path.unlink()
    os.mkfifo(path)
    assert puller.refused("oci:layout", layout=layout).code == "image-invalid"


def test_no_image_for_this_platform(puller: Puller, tmp_path: Path) -> None:
    other = Image(IMAGE.layers, architecture="arm64")
    listing = index(other)
    layout = write_layout(tmp_path / "layout", {**other.blobs(), digest(listing): listing})
    assert puller.refused("oci:layout", Sha256.of(listing), layout).code == "platform-missing"
    error = puller.refused("oci:layout", other.sha256, layout)
    assert error.code == "platform-missing"
    assert "linux/arm64" in error.message


def test_a_config_that_does_not_fit_its_manifest(puller: Puller, tmp_path: Path) -> None:
    fewer = json.loads(IMAGE.manifest)["layers"][:1]
    image = Image(IMAGE.layers, extra={"layers": fewer})
    layout = write_layout(tmp_path / "layout", image.blobs())
    assert puller.refused("oci:layout", image.sha256, layout).code == "image-invalid"


def test_indexes_without_end(puller: Puller, tmp_path: Path) -> None:
    blobs: dict[str, bytes] = dict(BLOBS)
    inner: dict[str, Any] = json.loads(index(IMAGE))["manifests"][0]
    for _ in range(4):
        outer = canonical_json({"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [inner]})
        blobs[digest(outer)] = outer
        inner = {**inner, "digest": digest(outer), "size": len(outer)}
        inner["mediaType"] = "application/vnd.oci.image.index.v1+json"
    layout = write_layout(tmp_path / "layout", blobs)
    assert puller.refused("oci:layout", Sha256.of(outer), layout).code == "image-invalid"


def test_a_token_is_asked_for_once_and_goes_nowhere_else(puller: Puller) -> None:
    with (
        running(Hub(BLOBS)) as elsewhere,
        running(Hub(BLOBS, tokens=True, anonymous=True, blobs_at=elsewhere.name)) as hub,
    ):
        puller.pull(f"{hub.name}/x", IMAGE.sha256)
    assert len(hub.asked("/token")) == 1
    assert "Authorization" not in hub.asked("/token")[0]
    assert hub.asked("/blobs/")[0]["Authorization"] == f"Bearer {TOKEN}"
    assert len(elsewhere.asked("/blobs/")) == 3
    assert not any("Authorization" in headers for headers in elsewhere.asked(""))


@pytest.mark.parametrize("tokens", [False, True])
def test_a_private_image(puller: Puller, tokens: bool) -> None:
    with running(Hub(BLOBS, users={"someone": "secret"}, tokens=tokens)) as hub:
        error = puller.refused(f"{hub.name}/x")
        assert error.code == "auth-needed"
        assert "docker login" in (error.hint or "")
        puller.log_in(hub.name, "someone", "secret")
        puller.pull(f"{hub.name}/x", IMAGE.sha256)


def test_a_wrong_password(puller: Puller) -> None:
    with running(Hub(BLOBS, users={"someone": "secret"}, tokens=True)) as hub:
        puller.log_in(hub.name, "someone", "guess")
        assert puller.refused(f"{hub.name}/x").code == "auth-needed"


def test_a_docker_configuration_that_is_broken(puller: Puller, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    puller.environ["DOCKER_CONFIG"] = str(tmp_path)
    assert puller.refused("127.0.0.1:9/x").code == "config-invalid"


def test_a_transfer_that_breaks_off_goes_on(puller: Puller) -> None:
    with running(Hub(BLOBS, cut={LAYER: 100})) as hub:
        puller.pull(f"{hub.name}/x", IMAGE.sha256)
    assert [each.get("Range") for each in hub.asked(LAYER)] == [None, "bytes=100-"]


def test_what_arrived_is_kept_for_the_next_run(puller: Puller) -> None:
    with running(Hub(BLOBS, status={LAYER: 403})) as hub:
        assert puller.refused(f"{hub.name}/x").code == "auth-needed"
    assert len(puller.left) == 3
    with running(Hub(BLOBS)) as hub:
        puller.pull(f"{hub.name}/x", IMAGE.sha256)
    assert [path for path, _ in hub.requests] == [f"/v2/x/blobs/{LAYER}"]
    assert puller.left == []


def test_a_registry_that_falls_silent(puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oci_registry, "STALL_TIMEOUT", 0.2)
    with running(Hub(BLOBS, hang={LAYER: 100})) as hub:
        error = puller.refused(f"{hub.name}/x")
    assert error.code == "fetch-stalled"
    assert any(LAYER[7:] in name for name in puller.left)


def test_a_silent_registry_does_not_hold_up_an_interrupt(puller: Puller) -> None:
    interrupt = threading.Timer(0.3, puller.cancel.cancel)
    with running(Hub(BLOBS, hang={LAYER: 100}, tokens=True, anonymous=True)) as hub:
        interrupt.start()
        started = time.monotonic()
        assert puller.refused(f"{hub.name}/x").code == "interrupted"
        assert time.monotonic() - started < 15
    assert any(LAYER[7:] in name for name in puller.left)


@pytest.mark.parametrize(
    "source",
    [
        OciSource("busybox:latest"),
        OciSource(f"busybox@sha256:{Sha256.of(b'other').hex}"),
        OciSource("UPPER"),
        OciSource(f"oci:x@{digest(IMAGE.manifest)}"),
    ],
)
def test_a_step_that_does_not_agree_with_its_source(puller: Puller, source: OciSource) -> None:
    from ccstore.fetch.oci import fetch_oci

    fixed = FixedOutput("image", "oci", IMAGE.sha256)
    with pytest.raises(CcError) as caught:
        fetch_oci(
            source,
            fixed,
            puller.folder,
            puller.folder,
            puller.folder,
            "x",
            puller.events.append,
            puller.cancel,
        )
    assert caught.value.code == "recipe-invalid"
