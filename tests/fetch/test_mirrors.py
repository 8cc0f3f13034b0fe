from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccstore.errors import CcError
from ccstore.fetch.apt import debian_archives, parse_deb822, parse_one_line
from ccstore.fetch.mirrors import PUBLIC, Mirrors, variable

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def machine(tmp_path: Path, release: str = "ID=debian\n", **files: str) -> tuple[Path, Path]:
    """An apt folder with sources.list.d/<name>.<suffix> for each name_suffix, and an os-release."""
    folder = tmp_path / "apt" / "sources.list.d"
    folder.mkdir(parents=True)
    for key, text in files.items():
        name, suffix = key.rsplit("_", 1)
        (folder / f"{name}.{suffix}").write_text(text)
    (tmp_path / "os-release").write_text(release)
    return tmp_path / "apt", tmp_path / "os-release"


def host(apt_root: Path, os_release: Path, **environ: str) -> Mirrors:
    return Mirrors.from_host(environ, {}, {}, apt_root, os_release)


def test_a_url_stands_for_itself() -> None:
    assert Mirrors({}).resolve("https://example.org/a") == ["https://example.org/a"]


def test_a_mirror_stands_for_each_of_its_bases() -> None:
    mirrors = Mirrors({"debian": ["http://a.example.org/debian", "http://b.example.org/d/"]})
    assert mirrors.resolve("mirror://debian/pool/x") == [
        "http://a.example.org/debian/pool/x",
        "http://b.example.org/d/pool/x",
    ]


def test_an_unknown_mirror_names_its_variable() -> None:
    with pytest.raises(CcError) as caught:
        Mirrors({}).resolve("mirror://my-own/x")
    assert caught.value.code == "mirror-unknown"
    assert "CCSTORE_MIRROR_MY_OWN" in (caught.value.hint or "")


@pytest.mark.parametrize("url", ["mirror://debian", "mirror://debian/", "mirror:///x", "mirror://De bian/x"])
def test_a_mirror_url_needs_name_and_path(url: str) -> None:
    with pytest.raises(CcError) as caught:
        Mirrors({"debian": ["http://example.org"]}).resolve(url)
    assert caught.value.code == "recipe-invalid"


@pytest.mark.parametrize(
    "base", ["ftp://example.org", "example.org/debian", "/srv/debian", "http://", "http://[x/"]
)
def test_a_base_must_be_a_url(base: str) -> None:
    with pytest.raises(CcError) as caught:
        Mirrors.from_host({"CCSTORE_MIRROR_X": base}, {}, {})
    assert caught.value.code == "config-invalid"


def test_precedence(tmp_path: Path) -> None:
    apt, release = machine(tmp_path, own_list="deb http://own.example.org/debian bookworm main\n")
    user = {"debian": ["http://user.example.org"]}
    project = {"debian": ["http://project.example.org"], "kernel": ["http://project.example.org/k"]}
    environ = {"CCSTORE_MIRROR_DEBIAN": "http://e.example.org  file:///srv/d"}

    def bases(
        environ: dict[str, str], user: dict[str, list[str]], project: dict[str, list[str]]
    ) -> list[str]:
        return list(Mirrors.from_host(environ, user, project, apt, release).bases("debian"))

    assert bases(environ, user, project) == ["http://e.example.org/", "file:///srv/d/"]
    assert bases({"CCSTORE_MIRROR_DEBIAN": " "}, user, project) == ["http://user.example.org/"]
    assert bases({}, {"debian": []}, project) == ["http://project.example.org/"]
    assert bases({}, {}, {}) == ["http://own.example.org/debian/"]


def test_names_with_dashes_come_from_the_environment() -> None:
    mirrors = Mirrors.from_host(
        {variable("my-own"): "http://e.example.org"}, {}, {"my-own": ["http://p.example.org"]}
    )
    assert mirrors.resolve("mirror://my-own/x") == ["http://e.example.org/x"]


def test_another_system_gets_public_mirrors(tmp_path: Path) -> None:
    sources = (
        "deb http://own.example.org/ubuntu noble main\ndeb http://own.example.org/debian bookworm main\n"
    )
    apt, release = machine(tmp_path, "ID=ubuntu\nID_LIKE=debian\n", own_list=sources)
    assert host(apt, release).bases("debian") == tuple(PUBLIC["debian"])
    assert host(apt, tmp_path / "nothing").bases("kernel") == tuple(PUBLIC["kernel"])


def test_a_debian_without_sources_gets_public_mirrors(tmp_path: Path) -> None:
    assert host(*machine(tmp_path)).bases("debian") == tuple(PUBLIC["debian"])


def test_one_line_sources(tmp_path: Path) -> None:
    apt, _ = machine(
        tmp_path,
        a_list=f"""
# deb http://commented.example.org/debian bookworm main
deb [arch=amd64 signed-by={KEYRING}] http://a.example.org/debian bookworm main contrib # why
deb http://a.example.org/debian bookworm-updates main
deb-src\thttp://b.example.org/debian/ trixie   main
deb http://security.example.org/debian-security bookworm-security main
deb http://old-security.example.org/debian-security buster/updates main
deb http://contrib.example.org/debian bookworm contrib
deb http://vendor.example.org/apt vendor-bookworm main
deb http://flat.example.org/apt ./
deb [signed-by=/etc/apt/keyrings/vendor.gpg] http://php.example.org/php bookworm main
deb http://$(ARCH).example.org/debian bookworm main
deb cdrom:[Debian]/ bookworm main
nonsense
""",
        b_list="deb file:/srv/debian bookworm main\n",
        c_disabled="deb http://disabled.example.org/debian bookworm main\n",
    )
    assert debian_archives(apt) == [
        "http://a.example.org/debian",
        "http://b.example.org/debian/",
        "file:///srv/debian",
    ]


def test_deb822_sources(tmp_path: Path) -> None:
    apt, _ = machine(
        tmp_path,
        debian_sources=f"""\
# the main archive
Types: deb deb-src
# http://commented.example.org/debian
URIs: http://a.example.org/debian
 http://b.example.org/debian
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By: {KEYRING}

Types: deb
URIs: http://security.example.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: {KEYRING}

Enabled: no
Types: deb
URIs: http://off.example.org/debian
Suites: bookworm
Components: main

types: deb
uris: http://vendor.example.org/debian
suites: bookworm
components: main
signed-by: /etc/apt/keyrings/vendor.asc

Types: deb
URIs: http://inline.example.org/debian
Suites: stable
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 /QINBGE
 -----END PGP PUBLIC KEY BLOCK-----
""",
    )
    assert debian_archives(apt) == [
        "http://a.example.org/debian",
        "http://b.example.org/debian",
        "http://inline.example.org/debian",
    ]


def test_a_mirror_list_is_followed(tmp_path: Path) -> None:
    listing = tmp_path / "debian.list"
    listing.write_text(
        "# mirrors\nhttps://a.example.org/debian\tpriority:1\n\nhttps://b.example.org/debian\n"
    )
    apt, _ = machine(tmp_path, own_list=f"deb mirror+file:{listing} bookworm main\n")
    assert debian_archives(apt) == ["https://a.example.org/debian", "https://b.example.org/debian"]


def test_sources_list_itself_comes_first(tmp_path: Path) -> None:
    apt, _ = machine(tmp_path, b_list="deb http://b.example.org/debian bookworm main\n")
    (apt / "sources.list").write_text("deb http://a.example.org/debian bookworm main\n")
    assert debian_archives(apt) == ["http://a.example.org/debian", "http://b.example.org/debian"]


def test_no_apt_at_all(tmp_path: Path) -> None:
    assert debian_archives(tmp_path / "nothing") == []


@given(st.text())
def test_no_text_breaks_the_parsers(text: str) -> None:
    for source in (*parse_one_line(text), *parse_deb822(text)):
        assert all(uri.split() == [uri] for uri in source.uris)


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True))
def test_every_name_can_be_set_by_its_variable(name: str) -> None:
    mirrors = Mirrors.from_host({variable(name): "http://example.org"}, {}, {})
    assert mirrors.resolve(f"mirror://{name}/x") == ["http://example.org/x"]
