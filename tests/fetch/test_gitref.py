"""Where a branch or tag is now."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.events import ignore
from ccstore.fetch.gitref import commit_of
from ccstore.fetch.gitrun import Limits
from ccstore.ports import Cancel
from ccstore.transfer.patience import Patience
from tests.conftest import needs
from tests.fetch.server import dumb_http

pytestmark = needs("git")

HASTY = Limits(stall=20.0, patience=Patience(attempts=2, first_pause=0.01))
PLAIN = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def git(folder: Path, *arguments: str) -> str:
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    command = ["git", "-C", str(folder), *author, *arguments]
    return subprocess.run(
        command, env={**os.environ, **PLAIN}, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    folder = tmp_path / "origin"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for number in range(3):
        git(folder, "commit", "-q", "--allow-empty", "-m", str(number))
    git(folder, "branch", "old", "HEAD~2")
    git(folder, "branch", "team/main", "HEAD~1")
    git(folder, "tag", "-a", "-m", "one", "v1", "HEAD~1")
    git(folder, "tag", "light", "HEAD~2")
    git(folder, "tag", "old", "HEAD")
    git(folder, "update-server-info")
    return folder


def ask(folder: Path, url: str, name: str, **environ: str) -> str:
    scratch = folder.parent / f"scratch-{len(list(folder.parent.iterdir()))}"
    scratch.mkdir()
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG")}
    given = {**kept, **PLAIN, "HOME": str(folder.parent), **environ}
    return commit_of(url, name, scratch, "x.lock", ignore, Cancel(), environ=given, limits=HASTY)


NAMES = {
    "main": "HEAD",
    "team/main": "HEAD~1",
    "v1": "HEAD~1",
    "light": "HEAD~2",
    "refs/heads/old": "HEAD~2",
    "refs/tags/old": "HEAD",
    "refs/tags/v1": "HEAD~1",
}


@pytest.mark.parametrize("name", NAMES)
def test_branches_and_tags(origin: Path, name: str) -> None:
    assert ask(origin, origin.as_uri(), name) == git(origin, "rev-parse", NAMES[name])


def test_a_plain_web_server_and_a_mirror(origin: Path, tmp_path: Path) -> None:
    with dumb_http(origin) as url:
        assert ask(origin, f"{url}/.git", "v1") == git(origin, "rev-parse", "HEAD~1")
    config = tmp_path / "gitconfig"
    config.write_text(f'[url "{origin}"]\n\tinsteadOf = https://git.example.org/x\n')
    mirrored = ask(origin, "https://git.example.org/x", "main", GIT_CONFIG_GLOBAL=str(config))
    assert mirrored == git(origin, "rev-parse", "HEAD")


@pytest.mark.parametrize(
    ("name", "code"), [("none", "not-found"), ("old", "recipe-invalid"), ("mai", "not-found")]
)
def test_names_that_mean_nothing_or_two_things(origin: Path, name: str, code: str) -> None:
    with pytest.raises(CcError) as caught:
        ask(origin, origin.as_uri(), name)
    assert caught.value.code == code


def test_a_repository_that_is_not_there(origin: Path, tmp_path: Path) -> None:
    with pytest.raises(CcError) as caught:
        ask(origin, (tmp_path / "nowhere").as_uri(), "main")
    assert caught.value.code == "unreachable"
    assert caught.value.details
