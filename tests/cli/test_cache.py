"""`ccstore cache` and substitution, as users type them; with a real nginx, and a real Nix on the other side."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ccstore.store.store import Store
from tests.cli.conftest import code, fetched
from tests.cli.team import Team
from tests.codec.nixlib import Nix
from tests.conftest import Shell, write
from tests.nginx import PUT, Site, needs_nginx, serving


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path, (tmp_path / "cache").as_uri())


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "web").mkdir()
    with serving(tmp_path / "web", PUT) as found:
        yield found


@pytest.fixture
def nix(tool: Callable[[str], str], tmp_path: Path) -> Nix:
    return Nix(tool, tmp_path / "nix")


@needs_nginx
def test_what_one_machine_made_another_one_takes(tmp_path: Path, site: Site) -> None:
    team = Team(tmp_path, site.url)
    logical = team.pushed()
    other = team.machine("other")
    planned = other.run("plan", "data")
    assert planned.stdout.startswith(f"substitute  data  ({site.url} has it; ")
    dry = json.loads(other.run("realize", "data", "--dry-run", "--json").stdout)
    assert [(each["step"], each["action"]) for each in dry] == [("data", "substitute")]
    assert not any(each[2].startswith("/nar/") for each in site.requests() if each[0] == "GET")
    assert other.run("path", "data", status=5).stdout == ""
    found = other.run("realize", "data", "--json")
    [value] = json.loads(found.stdout)
    assert (value["storePath"], value["origin"]) == (logical, "substituted")
    assert "data: substituted after" in found.stderr
    assert Path(value["path"]).read_text() == "shared\n"
    assert other.path("data") == Path(value["path"])
    assert json.loads(other.run("show", "data").stdout)[0]["outputs"]["out"]["origin"] == "substituted"
    other.run("verify", "--full")
    assert other.run("gc").returncode == 0
    assert other.path("data").exists()


def test_without_substitution_it_is_fetched(team: Team) -> None:
    builder = team.machine("builder")
    builder.realize("data")
    builder.run("cache", "push", "data", "--key", str(team.top / "key"))
    other = team.machine("other")
    assert other.run("plan", "data", "--no-substitute").stdout.startswith("fetch ")
    assert fetched(other.run("realize", "data", "--no-substitute").stderr) == ["data"]
    assert json.loads(other.run("show", "data").stdout)[0]["outputs"]["out"]["origin"] == "built"


def test_a_key_that_is_not_trusted(team: Team) -> None:
    team.pushed()
    wanted = (
        team.machine("keys").run("cache", "keygen", "other-1", str(team.top / "other.key")).stdout.strip()
    )
    team.trust(wanted)
    other = team.machine("other")
    found = other.run("cache", "pull", "data", status=4)
    assert code(found.stderr) == "signature-invalid"
    for word in (team.url, wanted, "team-1", "`keys`"):
        assert word in found.stderr
    found = other.run("realize", "data", status=6)  # the source is gone, and the cache is not believed
    assert found.stderr.count("[signature-invalid]") == 1
    assert code(found.stderr) == "unreachable"
    team.trust(wanted, team.key)
    other.run("cache", "pull", "data")
    assert other.path("data").exists()
    team.trust(wanted)
    assert code(other.run("path", "data", status=5).stderr) == "not-realised"


def test_a_key_that_a_person_takes_back(team: Team) -> None:
    team.pushed()
    write(team.project / "recipes/ccstore.yml", "project: team\n")
    config = write(team.top / "config/ccstore/config.yml", team.caches(team.key))
    other = team.machine("other")
    other.run("cache", "pull", "data")
    assert other.path("data").exists()
    write(config, "jobs: 2\n")
    assert code(other.run("path", "data", status=5).stderr) == "not-realised"
    write(config, team.caches(team.key))
    assert other.path("data").exists()
    config.unlink()
    assert code(other.run("path", "data", status=5).stderr) == "not-realised"


def test_a_push_goes_where_the_configuration_says_now(team: Team) -> None:
    machine = team.machine("builder")
    [path] = machine.realize("data")
    push = ("cache", "push", "data", "--key", str(team.top / "key"))
    machine.run(*push)
    team.url = (team.top / "another").as_uri()
    team.trust(team.key)
    machine.run(*push)
    [narinfo] = (team.top / "another").glob("*.narinfo")
    assert f"/nix/store/{path.name}\n" in narinfo.read_text()


def test_several_store_paths_are_answered_in_their_order(team: Team) -> None:
    builder = team.machine("builder")
    with Store.open(builder.store) as store, store.session() as session:
        paths = [session.add(write(team.top / name, name), name).path.logical for name in "abcde"]
    builder.run("cache", "push", *paths, "--key", str(team.top / "key"))
    for wanted in (paths, paths[::-1]):
        found = team.machine("other").run("cache", "pull", *wanted).stdout.split()
        assert [Path(each).name for each in found] == [Path(each).name for each in wanted]


@pytest.mark.parametrize("inside", [True, False])
def test_a_repair_fetches_what_no_recipe_gives(team: Team, inside: bool) -> None:
    """By its name alone; with the caches of the project, or outside of one with those of the person."""
    logical = team.pushed()
    other = team.machine("other")
    objects = [Path(other.run("cache", "pull", logical).stdout.strip())]
    (team.project / "recipes/data.yml").unlink()
    unknown = write(team.top / "own.txt", "in no cache\n")
    with Store.open(other.store) as store, store.session() as session:
        objects.append(store.objects.path(session.add(unknown, "own.txt").path))
    for each in objects:
        each.chmod(0o644)
        each.write_text("damaged\n")
    machine = other
    if not inside:
        write(team.top / "config/ccstore/config.yml", team.caches())
        machine = Shell(team.top, other.store, other.environment)
    found = machine.run("verify", "--full", "--repair", status=4)
    assert objects[0].read_text() == "shared\n"
    assert f"{objects[0]}" not in found.stdout
    assert f"{objects[1]}" in found.stdout
    assert ("and no cache has it" if inside else "no project here") in found.stderr
    assert "data: substituted after" in found.stderr


def test_what_no_cache_has(team: Team) -> None:
    machine = team.machine("builder")
    machine.realize("data")
    machine.run("cache", "push", "data", "--key", str(team.top / "key"), "--json")
    write(team.project / "recipes/other.yml", (team.project / "recipes/data.yml").read_text())
    assert code(team.machine("other").run("cache", "pull", "other", status=5).stderr) == "not-found"
    absent = "/nix/store/i9pmrzmpshapij2kin22pff6fc2adavx-hello.txt"
    assert code(machine.run("cache", "pull", absent, status=5).stderr) == "not-found"
    nowhere = (team.top / "nowhere").as_uri()
    assert code(machine.run("cache", "pull", absent, "--from", nowhere, status=2).stderr) == "not-a-cache"


def test_what_a_push_needs(team: Team) -> None:
    machine = team.machine("builder")
    key = str(team.top / "key")
    assert code(machine.run("cache", "push", "data", "--key", key, status=5).stderr) == "not-realised"
    machine.realize("data")
    assert code(machine.run("cache", "push", "data", status=2).stderr) == "key-missing"
    assert code(machine.run("cache", "push", "data", "--key", f"{key}.pub", status=2).stderr) == "key-invalid"
    assert (
        code(machine.run("cache", "push", "data", "--key", key, "--to", "ftp://x", status=2).stderr)
        == "usage"
    )
    machine.environment["CCSTORE_SIGNING_KEY"] = key
    assert "1 of 1 objects sent" in machine.run("cache", "push", "data").stderr
    assert "0 of 1 objects sent" in machine.run("cache", "push", "data").stderr
    del machine.environment["CCSTORE_SIGNING_KEY"]
    write(team.top / "config/ccstore/config.yml", f"signing-key: {key}\n")
    assert "1 of 1 objects sent" in machine.run("cache", "push", "data", "--force").stderr


def test_info(team: Team) -> None:
    logical = team.pushed()
    machine = team.machine("other")
    text = machine.run("cache", "info", "data").stdout
    assert f"{team.url}  store /nix/store, priority 40" in text
    assert f"  trusts {team.key}" in text
    assert re.search(rf"  {logical}  \d+ B zstd, signed by team-1 \(trusted\)", text)
    [value] = json.loads(machine.run("cache", "info", logical, "--json").stdout)
    assert value["objects"][0]["signatures"] == {"team-1": "trusted"}
    text = machine.run("cache", "info", "--from", "http://127.0.0.1:9").stdout
    assert "unreachable" in text


@pytest.mark.parametrize("kind", ["folder", pytest.param("nginx", marks=needs_nginx)])
def test_nix_reads_what_we_pushed(tmp_path: Path, site: Site, nix: Nix, kind: str) -> None:
    team = Team(tmp_path, site.url if kind == "nginx" else (tmp_path / "cache").as_uri())
    logical = team.pushed()
    trusts = ("--option", "require-sigs", "true", "--option", "trusted-public-keys", team.key)
    nix.run("nix", "copy", *trusts, "--from", team.url, "--to", nix.store, logical)
    assert nix.path(logical).read_text() == "shared\n"
    nix.run("nix", "store", "verify", "--sigs-needed", "1", "--trusted-public-keys", team.key, logical)


def test_nix_believes_our_signature_alone(team: Team, nix: Nix) -> None:
    """Nix takes what is content-addressed unsigned; without the CA line the signature has to do."""
    logical = team.pushed()
    [narinfo] = (team.top / "cache").glob("*.narinfo")
    lines = [line for line in narinfo.read_text().splitlines() if not line.startswith("CA: ")]
    narinfo.write_text("\n".join(lines) + "\n")
    copy = ("nix", "copy", "--option", "require-sigs", "true", "--from", team.url, "--to", nix.store, logical)
    other = team.machine("keys").run("cache", "keygen", "team-1", str(team.top / "other.key")).stdout.strip()
    assert "signature" in nix.run(*copy, "--option", "trusted-public-keys", other, status=1).stderr
    nix.run(*copy, "--option", "trusted-public-keys", team.key)
    assert nix.path(logical).read_text() == "shared\n"


@pytest.mark.parametrize("compression", ["none", "xz", "zstd", "bzip2", "gzip"])
def test_we_read_what_nix_pushed(team: Team, nix: Nix, compression: str) -> None:
    tree = team.top / "tree"
    write(tree / "bin/run", "#!/bin/sh\n").chmod(0o755)
    (tree / "link").symlink_to("bin/run")
    [logical] = nix.lines("nix-store", "--add", str(tree))
    cache = (team.top / "nixcache").as_uri()
    nix.run("nix", "copy", "--to", f"{cache}?compression={compression}", logical)
    machine = team.machine("other")
    pulled = Path(machine.run("cache", "pull", logical, "--from", cache).stdout.strip())
    assert pulled.name == Path(logical).name
    assert (pulled / "link").read_text() == "#!/bin/sh\n"
    machine.run("verify", "--full")


def test_what_nix_pushed_gets_our_signature_too(team: Team, nix: Nix) -> None:
    file = write(team.top / "data", "shared\n")
    [logical] = nix.lines("nix-store", "--add", str(file))
    cache = team.top / "nixcache"
    secret = team.top / "nixkey"
    nix.run("nix-store", "--generate-binary-cache-key", "nix-1", str(secret), f"{secret}.pub")
    nix.run("nix", "copy", "--to", f"{cache.as_uri()}?compression=xz&secret-key={secret}", logical)
    machine = team.machine("builder")
    machine.run("cache", "pull", logical, "--from", cache.as_uri())
    machine.run("cache", "push", logical, "--to", cache.as_uri(), "--key", str(team.top / "key"))
    for key in (team.key, Path(f"{secret}.pub").read_text()):
        nix.run(
            *("nix", "store", "verify", "--store", cache.as_uri(), "--sigs-needed", "1", "--no-contents"),
            *("--trusted-public-keys", key, logical),
        )


def test_a_foreign_object_of_nix_is_refused(team: Team) -> None:
    golden = Path(__file__).parent.parent / "codec/golden/nix-cache/refers.narinfo"
    write(team.top / "cache/nix-cache-info", "StoreDir: /nix/store\n")
    logical = golden.read_text().split()[1]
    hashed = Path(logical).name.partition("-")[0]
    write(team.top / f"cache/{hashed}.narinfo", golden.read_text())
    assert code(team.machine("other").run("cache", "pull", logical, status=4).stderr) == "cache-invalid"
