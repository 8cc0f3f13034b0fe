"""A cache in a service for remote execution, as users type it: on a buildbox-casd, and on a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from ccstore.codec.reapi import message
from tests.certificates import certificate
from tests.cli.conftest import code
from tests.cli.team import Team
from tests.cluster.casd import casd as casd
from tests.cluster.casd import own_casd
from tests.cluster.grid import grid as grid
from tests.cluster.proxy import Ask, proxy
from tests.cluster.zstd import offers_zstd
from tests.conftest import write
from tests.nginx import needs_nginx, serving

TRUSTED = "    trusted: true\n"


@pytest.fixture(params=["casd", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "cluster":
        return str(request.getfixturevalue("grid").url)
    return str(request.getfixturevalue("casd"))


@pytest.fixture
def own(tool: Callable[[str], str]) -> Iterator[str]:
    """A service that nobody has used before."""
    with own_casd(tool) as found:
        yield found


def test_what_one_machine_made_another_one_takes(url: str, tmp_path: Path) -> None:
    team = Team(tmp_path, url)
    logical = team.pushed()
    other = team.machine("other")
    planned = other.run("plan", "data")
    assert planned.stdout.startswith(f"substitute  data  ({url} has it; ")
    [taken] = json.loads(other.run("realize", "data", "--json").stdout)
    assert taken["storePath"] == logical
    assert taken["origin"] == "substituted"
    info = json.loads(other.run("cache", "info", "data", "--json").stdout)[0]
    assert (info["url"], info["state"], info["trusted"]) == (url, "ok", False)
    other.run("verify", "--full")
    again = team.machine("builder").run("cache", "push", "data", "--key", str(tmp_path / "key"))
    assert "0 of 1 objects sent" in again.stderr
    third = team.machine("third")
    assert third.run("cache", "pull", logical, "--from", url).stdout.endswith(f"{Path(logical).name}\n")


def test_only_signed_realisations_count(own: str, tmp_path: Path) -> None:
    team = Team(tmp_path, own)
    team.pushed()
    stranger = team.machine("keys").run("cache", "keygen", "stranger-1", str(tmp_path / "stranger")).stdout
    team.trust(stranger.strip())
    found = team.machine("other").run("realize", "data", status=None)
    assert "[signature-invalid]" in found.stderr
    assert code(found.stderr) != "signature-invalid"  # it goes on without the cache
    team.trust()
    assert "signature" not in team.machine("other").run("realize", "data", status=None).stderr


def test_a_service_that_is_trusted_needs_no_signature(own: str, tmp_path: Path) -> None:
    team = Team(tmp_path, own)
    logical = team.pushed()
    team.trust(more=TRUSTED)
    other = team.machine("other")
    assert json.loads(other.run("realize", "data", "--json").stdout)[0]["storePath"] == logical
    assert other.path("data").name == Path(logical).name
    team.trust()  # what came unsigned counts while such a cache is trusted
    other.run("path", "data", status=5)
    team.trust(team.key)
    other.run("path", "data", status=5)
    team.trust(more=TRUSTED)
    other.run("path", "data")


def test_nobody_else_can_be_trusted_unsigned(tmp_path: Path) -> None:
    team = Team(tmp_path, (tmp_path / "cache").as_uri())
    team.trust(more=TRUSTED)
    found = team.machine("other").run("list", status=2)
    assert "only a service for remote execution can be `trusted`" in found.stderr


def test_what_the_service_has_lost_is_a_miss(own: str, tmp_path: Path) -> None:
    team = Team(tmp_path, own)
    team.pushed()
    for blob in (Path(own.removeprefix("unix:")).parent / "cache/cas/objects").glob("*/*"):
        blob.unlink()
    found = team.machine("other").run("cache", "pull", "data", status=5)
    assert code(found.stderr) == "not-found"
    write(tmp_path / "file.txt", "shared\n")
    assert team.machine("other").realize("data")  # without the cache
    team.machine("builder").run("cache", "push", "data", "--key", str(tmp_path / "key"))
    assert team.machine("third").run("cache", "pull", "data")


def test_a_service_that_lies(own: str, tmp_path: Path) -> None:
    team = Team(tmp_path, own)
    team.pushed()

    with proxy(own, lie) as (place, _):
        team.move(place)
        found = team.machine("other").run("cache", "pull", "data", status=4)
    assert code(found.stderr) == "cache-invalid"


def lie(method: str, answer: bytes) -> bytes:
    if method != "Read":
        return answer
    part = message("google.bytestream.ReadResponse").FromString(answer)
    part.data = bytes(each ^ 1 for each in part.data)
    return bytes(part.SerializeToString())


def read_alone(method: str, requests: Iterator[bytes], ask: Ask) -> Iterable[bytes]:
    """A service that sends no content with its word on a file, so that this must be read; with zstd."""
    answers = offers_zstd(method, requests, ask)
    return map(_without_content, answers) if method == "GetActionResult" else answers


def _without_content(answer: bytes) -> bytes:
    result = message("ActionResult").FromString(answer)
    for each in result.output_files:
        each.contents = b""
    return bytes(result.SerializeToString())


def test_a_service_that_compresses_is_a_cache_and_its_damage_is_a_miss(own: str, tmp_path: Path) -> None:
    team = Team(tmp_path, own)
    with proxy(own, respond=read_alone) as (place, _):
        team.move(place)
        logical = team.pushed()
        [taken] = json.loads(team.machine("other").run("realize", "data", "--json").stdout)
        assert (taken["storePath"], taken["origin"]) == (logical, "substituted")
    write(tmp_path / "file.txt", "shared\n")
    with proxy(own, lie, read_alone) as (place, _):
        team.move(place)
        done = team.machine("third").run("realize", "data", "--json")
    [made] = json.loads(done.stdout)
    assert (made["storePath"], made["origin"]) == (logical, "built")
    assert "[cache-invalid]" in done.stderr


@needs_nginx
def test_the_credentials_are_those_of_the_service(own: str, tmp_path: Path) -> None:
    """A cache in the service that is configured for builds is spoken to in the same way."""
    (tmp_path / "nginx").mkdir()
    authority = certificate(tmp_path, "authority")
    server = certificate(tmp_path, "server", authority)
    more = (
        f"ssl_certificate {server.chain}; ssl_certificate_key {server.key}; client_max_body_size 0;"
        f'if ($http_authorization != "Bearer secret") {{ return 401; }} location / {{ grpc_pass grpc://{own}; }}'
    )
    with serving(tmp_path / "nginx", more, "ssl http2") as site:
        url = site.url.replace("http:", "grpcs:")
        team = Team(tmp_path, url)
        found = team.machine("builder").run("cache", "info", "--json")
        assert json.loads(found.stdout)[0]["state"] == "unreachable"
        service = f"remote: {{url: {url!r}, ca: {str(authority.chain)!r}, token: token}}\n"
        write(team.project / "recipes/token", "secret\n")
        config = team.project / "recipes/ccstore.yml"
        config.write_text(config.read_text() + service)
        logical = team.pushed()
        [taken] = json.loads(team.machine("other").run("realize", "data", "--json").stdout)
        assert taken["storePath"] == logical
        write(team.project / "recipes/token", "another\n")
        found = team.machine("third").run(
            "cache", "push", "data", "--key", str(tmp_path / "key"), status=None
        )
        assert found.returncode != 0
        pulled = team.machine("third").run("cache", "pull", "data", status=None)
        assert code(pulled.stderr) == "auth-needed"


def test_nobody_answers(tmp_path: Path) -> None:
    team = Team(tmp_path, f"unix:{tmp_path}/nothing")
    found = team.machine("other").run("realize", "data")
    assert "[unreachable]" in found.stderr  # and goes on without it
    pushed = team.machine("other").run("cache", "push", "data", "--key", str(tmp_path / "key"), status=6)
    assert code(pushed.stderr) == "unreachable"
