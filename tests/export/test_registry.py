"""To Debian's docker-registry, and to registries that misbehave; what was pushed is fetched as the same object."""

from __future__ import annotations

import itertools
from pathlib import Path

import httpx
import pytest

from ccstore.codec.nar import nar_hash
from ccstore.codec.oci import Reference
from ccstore.errors import CcError
from ccstore.events import Event, Noted
from ccstore.export import registry
from ccstore.export.image import Image
from ccstore.export.registry import push
from ccstore.fetch.oci import fetch_oci
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import OciSource
from ccstore.model.hashes import Sha256
from ccstore.ports import Cancel
from tests.export.receiver import Receiver, receiving
from tests.images import Served, free_port

_numbers = itertools.count()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(registry, "PAUSE", 0.001)
    return {"HOME": str(tmp_path)}


def names(served: str, *tags: str) -> list[Reference]:
    repository = f"guest/kernel-{next(_numbers)}"
    return [Reference.parse(f"{served}/{repository}:{tag}") for tag in tags]


def pulled(reference: Reference, folder: Path) -> Sha256:
    """The NAR hash of the object that our own fetch makes of `reference`."""
    digest = httpx.head(
        f"http://{reference.registry}/v2/{reference.repository}/manifests/{reference.tag}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    ).headers["Docker-Content-Digest"]
    fixed = FixedOutput("image", "oci", Sha256.parse(digest))
    source = OciSource(f"{reference.registry}/{reference.repository}@{digest}")
    (folder / "scratch").mkdir()
    fetch_oci(
        source,
        fixed,
        folder / "pulled",
        folder / "partials",
        folder / "scratch",
        "image",
        lambda _: None,
        Cancel(),
        environ={"HOME": str(folder)},
    )
    return nar_hash(folder / "pulled")[0]


@pytest.mark.parametrize("chunk", [registry.CHUNK, 60_000])
def test_what_is_pushed_is_pulled_as_the_same_object(
    image: Image, served: Served, tmp_path: Path, home: dict[str, str], chunk: int
) -> None:
    assert max(each.size for each in image.blobs()) > 3 * 60_000  # bytes: several chunks
    given = names(served.name, "6.1.176-abc", "6.1.x")
    push(image, given, lambda _: None, environ=home, chunk=chunk)
    assert pulled(given[1], tmp_path) == nar_hash(image.folder)[0]
    tags = httpx.get(f"{served.url}/v2/{given[0].repository}/tags/list").json()["tags"]
    assert sorted(tags) == ["6.1.176-abc", "6.1.x"]


def test_what_is_there_is_not_sent_again(image: Image, served: Served, home: dict[str, str]) -> None:
    given = names(served.name, "v1")
    push(image, given, lambda _: None, environ=home)
    before = len(served.requests())
    events: list[Event] = []
    push(image, given, events.append, environ=home)
    assert {method for method, _ in served.requests()[before:]} == {"HEAD", "PUT"}
    assert sum(isinstance(each, Noted) and "already" in each.message for each in events) == len(image.blobs())


def test_no_registry(image: Image, home: dict[str, str]) -> None:
    with pytest.raises(CcError) as caught:
        push(image, names(f"127.0.0.1:{free_port()}", "v1"), lambda _: None, environ=home)
    assert caught.value.code == "unreachable"


def test_plain_http_only_on_request(image: Image, home: dict[str, str]) -> None:
    with receiving(Receiver()) as receiver:
        name = names(f"127.1:{receiver.port}", "v1")  # loopback, but not by a name that says so
        with pytest.raises(CcError) as caught:
            push(image, name, lambda _: None, environ=home)
        assert caught.value.code == "unreachable"
        push(image, name, lambda _: None, environ=home, insecure=True)
    assert receiver.tags == ["v1"]


def test_a_chunk_that_arrives_in_part_goes_on(image: Image, home: dict[str, str]) -> None:
    with receiving(Receiver(drop_chunk=2, keep=10_000)) as receiver:
        push(image, names(receiver.name, "v1"), lambda _: None, environ=home, chunk=60_000)
    assert receiver.whole == {each.digest.hex: image.path(each).read_bytes() for each in image.blobs()}


def test_a_registry_that_does_not_say_what_has_arrived(image: Image, home: dict[str, str]) -> None:
    with receiving(Receiver(ranges=itertools.repeat(None))) as receiver:
        push(image, names(receiver.name, "v1"), lambda _: None, environ=home, chunk=60_000)
    assert receiver.whole == {each.digest.hex: image.path(each).read_bytes() for each in image.blobs()}
    assert receiver.chunks == sum((each.size - 1) // 60_000 for each in image.blobs())


@pytest.mark.parametrize(("said", "problem"), [("0-0", "keeps nothing"), ("0-987654321", "987654322 bytes")])
def test_a_registry_that_tells_no_truth_of_what_has_arrived(
    image: Image, home: dict[str, str], said: str, problem: str
) -> None:
    with receiving(Receiver(ranges=iter([said] * 99))) as receiver, pytest.raises(CcError) as caught:
        push(image, names(receiver.name, "v1"), lambda _: None, environ=home, chunk=60_000)
    assert caught.value.code == "push-refused"
    assert problem in caught.value.message
    assert receiver.chunks <= registry.ATTEMPTS**2


@pytest.mark.parametrize("status", [429, 503])
def test_a_registry_that_is_busy_for_a_moment(image: Image, home: dict[str, str], status: int) -> None:
    with receiving(Receiver(first=[status, status])) as receiver:
        push(image, names(receiver.name, "v1"), lambda _: None, environ=home)
    assert receiver.tags == ["v1"]


def test_a_registry_that_stays_busy(image: Image, home: dict[str, str]) -> None:
    with receiving(Receiver(first=[503] * 99)) as receiver, pytest.raises(CcError) as caught:
        push(image, names(receiver.name, "v1"), lambda _: None, environ=home)
    assert caught.value.code == "push-refused"
    assert "503" in caught.value.message


def test_a_registry_that_refuses(image: Image, home: dict[str, str]) -> None:
    with receiving(Receiver(first=[0, 405])) as receiver, pytest.raises(CcError) as caught:
        push(image, names(receiver.name, "v1"), lambda _: None, environ=home)
    assert caught.value.code == "push-refused"
    assert caught.value.details == ("not today",)


def test_a_push_needs_a_password(image: Image, home: dict[str, str]) -> None:
    with receiving(Receiver(first=[401] * 9)) as receiver, pytest.raises(CcError) as caught:
        push(image, names(receiver.name, "v1"), lambda _: None, environ=home)
    assert caught.value.code == "auth-needed"


def test_a_registry_that_makes_something_else_of_it(image: Image, home: dict[str, str]) -> None:
    with receiving(Receiver(converts=True)) as receiver, pytest.raises(CcError) as caught:
        push(image, names(receiver.name, "v1"), lambda _: None, environ=home)
    assert caught.value.code == "hash-mismatch"
