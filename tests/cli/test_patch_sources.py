"""Patches and config fragments from elsewhere: git repositories that `ccstore lock` follows, and archives."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import Project, assert_whole, built, code, edit, place
from tests.conftest import TinyProject, must_be_reachable, needs, write

pytestmark = needs("git")

SERIES = "kernel/1.x/patches"
BUS, CLOCK = "0001-bus-say-that-a-patch-was-here.patch", "0002-clock-a-driver-that-tells-no-time.patch"
CONFIG = "kernel/1.x/config"
ZEROS = "0" * 40
PIN = re.compile(r"[0-9a-f]{40}|sha256-[A-Za-z0-9+/]{43}=")
LINUXKIT = "https://github.com/linuxkit/linuxkit"
LATE = (
    "--- a/drivers/bus.c\n+++ b/drivers/bus.c\n@@ -4,3 +4,3 @@\n {\n"
    '-\ttiny_print("bus: found, patched\\n");\n+\ttiny_print("bus: found, patched twice\\n");\n }\n'
)
UPSTREAM = f"""\
# What others patch.
kind: git
url: {{url}}
follow: main   # moved by `ccstore lock`
commit: '{ZEROS}'
paths: [kernel]
sha256: sha256-{"A" * 43}=  # of the tree
"""


@dataclass
class Repository:
    """Somebody else's repository of patches."""

    folder: Path

    @property
    def url(self) -> str:
        return self.folder.as_uri()

    def git(self, *arguments: str) -> str:
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ["git", "-C", str(self.folder), *author, *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    def write(self, name: str, text: str) -> None:
        write(self.folder / name, text)

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "more")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def upstream(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path / "upstream")
    repository.folder.mkdir()
    repository.git("init", "-q", "-b", "main")
    repository.write("README", "about this\n")
    repository.write(CONFIG, "CONFIG_REPEAT=3\n")
    return repository


@pytest.fixture
def project(realised: TinyProject, upstream: Repository) -> TinyProject:
    """The tiny kernel, whose patches have moved to the repository."""
    shutil.copytree(realised.root / "patches", upstream.folder / SERIES)
    upstream.commit()
    write(realised.root / "recipes/upstream.yml", UPSTREAM.format(url=upstream.url))
    recipe = realised.root / "recipes/kernel.yml"
    edit(recipe, "patches: ../patches", f"patches: {{from: upstream, path: {SERIES}}}")
    return realised


def lock(project: TinyProject) -> list[str]:
    # by name: the toolchain that the project imports is this checkout's, and could be locked too
    return project.shell.run("lock", "upstream").stdout.splitlines()


def failure(project: TinyProject, expected: str, target: str = "kernel.patched") -> str:
    found = project.shell.run("realize", target, status=None)
    assert (found.stdout, code(found.stderr)) == ("", expected)
    assert "/in/" not in found.stderr
    assert_whole(project.shell)
    return found.stderr


def test_the_same_patches_from_a_repository_give_the_same_kernel(
    project: TinyProject, upstream: Repository
) -> None:
    [kernel] = [each for each in (project.shell.store / "objects").iterdir() if each.name.endswith("-kernel")]
    assert lock(project) == [
        f"commit {ZEROS} → {upstream.git('rev-parse', 'HEAD')}",
        f"+ {SERIES}/{BUS}",
        f"+ {SERIES}/{CLOCK}",
    ]
    found = project.shell.run("realize", "kernel")
    assert built(found.stderr) == ["kernel.patches-00"]
    assert found.stdout.strip() == str(kernel)
    assert_whole(project.shell)


def test_a_lock_keeps_the_recipe_as_it_is_written(project: TinyProject, upstream: Repository) -> None:
    recipe = project.root / "recipes/upstream.yml"
    recipe.chmod(0o640)
    before = recipe.read_text()
    lock(project)
    after = recipe.read_text()
    assert PIN.sub("", after) == PIN.sub("", before)
    assert f"commit: '{upstream.git('rev-parse', 'HEAD')}'\n" in after
    assert recipe.stat().st_mode & 0o777 == 0o640
    again = project.shell.run("lock", "upstream")
    assert (again.stdout, recipe.read_text()) == ("", after)
    assert "upstream: nothing changed" in again.stderr


def test_a_lock_says_what_came_went_and_changed(project: TinyProject, upstream: Repository) -> None:
    edit(
        project.root / "recipes/kernel.yml",
        "20-greeting.config]",
        f"20-greeting.config, {{from: upstream, path: {CONFIG}}}]",
    )
    lock(project)
    old = upstream.git("rev-parse", "HEAD")
    upstream.write(f"{SERIES}/0003-late.patch", LATE)
    upstream.write(CONFIG, "CONFIG_REPEAT=4\n")
    upstream.write("README", "about something else\n")
    upstream.write("kernel/1.x/unused", "nobody takes this\n")
    (upstream.folder / SERIES / CLOCK).unlink()
    new = upstream.commit()
    assert lock(project) == [
        f"commit {old} → {new}",
        f"+ {SERIES}/0003-late.patch",
        f"- {SERIES}/{CLOCK}",
        f"~ {CONFIG}",
    ]
    assert "patched twice" in (project.shell.realize("kernel.patched")[0] / "drivers/bus.c").read_text()
    assert "CONFIG_REPEAT=4\n" in project.shell.realize("kernel.config")[0].read_text()


def test_a_lock_for_programs(project: TinyProject, upstream: Repository) -> None:
    upstream.write(f"{SERIES}/series", f"{CLOCK}\n")
    commit = upstream.commit()
    [said] = json.loads(project.shell.run("lock", "upstream", "--json").stdout)
    assert said == {
        "recipe": "upstream",
        "commit": {"old": ZEROS, "new": commit},
        "came": [f"{SERIES}/{CLOCK}", f"{SERIES}/series"],
        "went": [],
        "changed": [],
    }


def test_a_tag_may_be_followed(project: TinyProject, upstream: Repository) -> None:
    tagged = upstream.git("rev-parse", "HEAD")
    upstream.git("tag", "-a", "-m", "one", "v1")
    upstream.write("README", "later\n")
    upstream.commit()
    edit(project.root / "recipes/upstream.yml", "follow: main", "follow: v1")
    assert lock(project)[0] == f"commit {ZEROS} → {tagged}"


@pytest.mark.parametrize(
    ("old", "new", "expected", "where"),
    [
        ("follow: main", "follow: trunk", "not-found", "recipes/upstream.yml:4:9"),
        ("follow: main", "follow: both", "recipe-invalid", "recipes/upstream.yml:4:9"),
        ("upstream\nfollow", "upstream-that-is-gone\nfollow", "unreachable", "recipes/upstream.yml:4:9"),
        ("[kernel]", "[kernel, missing]", "file-missing", "recipes/upstream.yml:4:9"),
        (f"'{ZEROS}'", f">-\n  {ZEROS}", "recipe-invalid", "recipes/upstream.yml:5:9"),
        ("follow: main   #", "#", "usage", "recipes/upstream.yml"),
    ],
    ids=["no branch", "a branch and a tag", "no repository", "no path", "several lines", "follows nothing"],
)
def test_a_lock_that_fails_writes_nothing(
    project: TinyProject, upstream: Repository, old: str, new: str, expected: str, where: str
) -> None:
    upstream.git("branch", "both")
    upstream.git("tag", "both")
    recipe = project.root / "recipes/upstream.yml"
    edit(recipe, old, new)
    before = recipe.read_text()
    found = project.shell.run("lock", "upstream", status=None)
    assert (found.stdout, code(found.stderr), place(found.stderr)) == ("", expected, where)
    assert recipe.read_text() == before
    assert_whole(project.shell)


def test_an_old_commit_that_is_gone_does_not_stop_a_lock(project: TinyProject, upstream: Repository) -> None:
    edit(project.root / "recipes/upstream.yml", ZEROS, "1" * 40)
    found = project.shell.run("lock", "upstream")
    assert "the old commit cannot be had" in found.stderr
    assert f"+ {SERIES}/{BUS}" in found.stdout


def test_a_patch_that_the_source_has_is_left_out_if_the_recipe_says_so(
    project: TinyProject, upstream: Repository
) -> None:
    shutil.copy(upstream.folder / SERIES / BUS, upstream.folder / SERIES / "0003-again.patch")
    upstream.commit()
    lock(project)
    said = failure(project, "patch-applied")
    assert "0003-again.patch is already in the tree" in said
    assert place(said) == f"upstream:{SERIES}"
    edit(project.root / "recipes/kernel.yml", f"path: {SERIES}", f"path: {SERIES}, skip-applied: true")
    project.shell.run("realize", "kernel.patched")
    log = project.shell.run("log", "kernel.patched").stdout
    assert re.findall("^skipped .*", log, re.MULTILINE) == [
        "skipped 0003-again.patch: it is already in the tree"
    ]


def test_a_path_that_the_repository_does_not_have(project: TinyProject) -> None:
    lock(project)
    edit(project.root / "recipes/kernel.yml", SERIES, "kernel/2.x/patches")
    said = failure(project, "file-missing")
    assert place(said).startswith("recipes/kernel.yml:")
    assert "there is no kernel/2.x/patches in it" in said


def test_a_fragment_of_a_repository_is_named_where_it_lies(
    project: TinyProject, upstream: Repository
) -> None:
    upstream.write(CONFIG, "# theirs\nCONFIG_BUSS=y\n")
    upstream.commit()
    edit(
        project.root / "recipes/kernel.yml",
        "20-greeting.config]",
        f"20-greeting.config, {{from: upstream, path: {CONFIG}}}]",
    )
    lock(project)
    said = failure(project, "config-unknown", "kernel.config")
    assert place(said) == f"upstream:{CONFIG}:2"


def test_a_debian_source_package(small: Project) -> None:
    """sl: the tree is the one that patch(1) made by hand of the original and the package's series."""
    pool = "mirror://debian/pool/main/s/sl"
    small.recipe(
        "sl-debian",
        f"kind: url\nurl: {pool}/sl_5.02-1.debian.tar.xz\nsize: 13932\n"
        "sha256: f25d8583951456d4889e72587856924d341652dcd1725e374a98971a1fdf8b55\n",
    )
    original = (
        f"{{url: {pool}/sl_5.02.orig.tar.gz, size: 5353, "
        "sha256: 1e5996757f879c81f202a18ad8e982195cf51c41727d3fea4af01fdcbbb5563a}"
    )
    recipe = small.recipe(
        "sl",
        f"kind: kernel\nversion: 5.02\ntoolchain: toolchain\nsource: {original}\n"
        "patches: {from: sl-debian, path: patches}\nconfig: {base: tinyconfig}\n",
    )
    [tree] = small.shell.realize("sl.patched")
    assert tree.name == "670vxgzqi79hmn7b2q4ky3d0fbb0x05b-sl-patched"
    log = small.shell.run("log", "sl.patched").stdout
    assert re.findall("^applying (.*)", log, re.MULTILINE) == ["modify_Makefile.patch", "add_-e_option.patch"]
    edit(recipe, "path: patches", "path: debian/patches")
    said = small.fails("realize", "sl.patched").stderr
    assert (code(said), place(said)) == ("file-missing", "recipes/sl.yml:5:1")
    assert "did you mean patches? (an archive is unpacked without its one top folder)" in said


def test_linuxkits_patches_and_configuration(small: Project) -> None:
    """Their commits of 2024 and 2025, between which a configuration changed and no patch did."""
    must_be_reachable(LINUXKIT)
    small.recipe(
        "linuxkit",
        f"kind: git\nurl: {LINUXKIT}\ncommit: {ZEROS}\nfollow: v1.8.2\nsha256: sha256-{'A' * 43}=\n"
        "paths: [kernel/5.10.x/patches, kernel/6.6.x/config-x86_64]\n",
    )
    small.recipe(
        "kernel",
        "kind: kernel\nversion: 1.0.0\ntoolchain: toolchain\n"
        f"source: {{url: 'file:///none', sha256: {'0' * 64}}}\n"
        "patches: {from: linuxkit, path: kernel/5.10.x/patches}\n"
        "config: {base: {from: linuxkit, path: kernel/6.6.x/config-x86_64}}\n",
    )
    came = small.shell.run("lock", "linuxkit").stdout.splitlines()[1:]
    assert came == [
        "+ kernel/5.10.x/patches/0001-include-uapi-linux-swab-Fix-potentially-missing-__al.patch",
        "+ kernel/6.6.x/config-x86_64",
    ]
    [config] = small.shell.realize("kernel.base")
    assert "CONFIG_X86_64=y\n" in config.read_text()
