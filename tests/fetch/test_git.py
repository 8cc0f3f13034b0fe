from __future__ import annotations

import os
import socket
import stat
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.events import Event
from ccstore.fetch.fetch import fetch
from ccstore.fetch.git import fetch_git
from ccstore.fetch.gitrun import Limits
from ccstore.fetch.gittree import parse_tree
from ccstore.fetch.mirrors import Mirrors
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import Fetch, GitSource
from ccstore.model.hashes import Sha256
from ccstore.ports import Cancel
from ccstore.transfer.patience import Patience
from tests.fetch.server import Answer, Server, dumb_http

FIXED = FixedOutput("tree", "nar", Sha256.of(b"the caller checks it"))
HASTY = Limits(stall=20.0, patience=Patience(attempts=2, first_pause=0.01))
NAMES = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org"}
NAMES |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org"}


@dataclass
class Bench:
    """A repository, a user's configuration of git, and a place to fetch to."""

    folder: Path
    events: list[Event] = field(default_factory=list)
    cancel: Cancel = field(default_factory=Cancel)
    limits: Limits = HASTY
    count: int = 0

    @property
    def origin(self) -> Path:
        return self.folder / "origin"

    @property
    def environ(self) -> dict[str, str]:
        config = str(self.folder / "gitconfig")
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG")}
        return {**kept, "HOME": str(self.folder), "GIT_CONFIG_GLOBAL": config, "GIT_CONFIG_NOSYSTEM": "1"}

    def configure(self, text: str) -> None:
        (self.folder / "gitconfig").write_text(text)

    def git(self, *arguments: str, given: bytes | None = None) -> str:
        """Runs git in the origin, without the user's configuration."""
        environ = {**self.environ, **NAMES, "GIT_CONFIG_GLOBAL": os.devnull}
        command = ["git", "-C", str(self.origin), *arguments]
        done = subprocess.run(command, env=environ, input=given, capture_output=True, check=True)
        return done.stdout.decode().strip()

    def commit(self, **files: bytes) -> str:
        """Adds files (`__` is `/` in their names, `_` a dot in front) and commits; the commit."""
        for name, content in files.items():
            path = self.origin / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.git("-c", "core.autocrlf=false", "add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "more")
        return self.git("rev-parse", "HEAD")

    def fetch(self, commit: str, *paths: str, url: str | None = None, path: str | None = None) -> Path:
        self.count += 1
        to, scratch = self.folder / f"to{self.count}", self.folder / f"scratch{self.count}"
        scratch.mkdir()
        environ = self.environ | ({"PATH": path} if path is not None else {})
        source = GitSource(url or self.origin.as_uri(), commit, paths)
        watch = (self.events.append, self.cancel)
        fetch_git(source, FIXED, to, scratch, "agent.source", *watch, environ=environ, limits=self.limits)
        return to

    def refused(self, commit: str, *paths: str, url: str | None = None, path: str | None = None) -> CcError:
        with pytest.raises(CcError) as caught:
            self.fetch(commit, *paths, url=url, path=path)
        return caught.value


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.configure("")
    bench.origin.mkdir()
    bench.git("init", "-q", "-b", "main")
    return bench


def tree(folder: Path) -> dict[str, tuple[str, bytes]]:
    """Kind and content of everything below `folder`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", os.fsencode(path.readlink()))
        elif path.is_dir():
            found[name] = ("folder", b"")
        else:
            executable = path.stat().st_mode & stat.S_IXUSR
            found[name] = ("program" if executable else "file", path.read_bytes())
    return found


def test_a_commit_is_written_without_git(bench: Bench) -> None:
    (bench.origin / "run").write_bytes(b"#!/bin/sh\n")
    (bench.origin / "run").chmod(0o755)
    (bench.origin / "link").symlink_to("../../etc/passwd")
    commit = bench.commit(README=b"hello\n", src__a=b"", src__deep__b=b"b\r\n")
    bench.commit(README=b"later\n")
    expected = {
        "README": ("file", b"hello\n"),
        "link": ("link", b"../../etc/passwd"),
        "run": ("program", b"#!/bin/sh\n"),
        "src": ("folder", b""),
        "src/a": ("file", b""),
        "src/deep": ("folder", b""),
        "src/deep/b": ("file", b"b\r\n"),
    }
    assert tree(bench.fetch(commit)) == expected
    assert tree(bench.fetch(commit, url=str(bench.origin))) == expected


@pytest.mark.parametrize("filters", ["true", "false"])
def test_only_some_paths(bench: Bench, filters: str) -> None:
    bench.git("config", "uploadpack.allowFilter", filters)
    commit = bench.commit(a__b=b"1", a__c__d=b"2", ab=b"3", LICENSE=b"4", big=b"5" * 100_000)
    to = bench.fetch(commit, "a/", "LICENSE")
    assert set(tree(to)) == {"LICENSE", "a", "a/b", "a/c", "a/c/d"}
    assert set(tree(bench.fetch(commit, "a/c/d"))) == {"a", "a/c", "a/c/d"}


def test_blobs_that_are_not_wanted_do_not_travel(bench: Bench) -> None:
    bench.git("config", "uploadpack.allowFilter", "true")
    commit = bench.commit(small=b"s", **{f"f{i}": b"%d" % i for i in range(50)}, big=os.urandom(2_000_000))
    bench.fetch(commit, "small", *(f"f{i}" for i in range(50)))
    packs = list((bench.folder / "scratch1").rglob("*.pack"))
    assert sum(pack.stat().st_size for pack in packs) < 100_000
    assert len(packs) + len(list((bench.folder / "scratch1").rglob("objects/??/*"))) < 60


def test_a_path_that_is_not_there(bench: Bench) -> None:
    commit = bench.commit(a=b"")
    error = bench.refused(commit, "a", "b/c")
    assert error.code == "file-missing"
    assert "'b/c'" in error.message


@pytest.mark.parametrize("paths", [(), ("a",)])
def test_names_are_only_names(bench: Bench, paths: tuple[str, ...]) -> None:
    odd = [b"a/new\nline", b"a/*", b"a/:(top)", b'a/"', b"a/\xff\xfe", b"a/-rf", b"a/ sp ace "]
    for name in odd:
        path = Path(os.fsdecode(os.fsencode(bench.origin) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name)
    to = bench.fetch(bench.commit(), *paths)
    assert {os.fsencode(path.relative_to(to)): path.read_bytes() for path in (to / "a").iterdir()} == {
        name: name for name in odd
    }
    assert set(tree(bench.fetch(bench.commit(), "a/*"))) == {"a", "a/*"}


def test_rules_of_the_user_name_a_mirror(bench: Bench) -> None:
    commit = bench.commit(a=b"1")
    bench.configure(f'[url "{bench.origin.as_uri()}"]\n insteadOf = https://git.example.org/it\n')
    assert tree(bench.fetch(commit, "a", url="https://git.example.org/it")) == {"a": ("file", b"1")}


HOSTILE = """
[core]
 autocrlf = true
 eol = crlf
 safecrlf = true
 symlinks = false
 fileMode = false
 hooksPath = {hooks}
 attributesFile = {attributes}
 fsmonitor = {hooks}/fsmonitor
 sparseCheckout = true
 quotePath = true
 askPass = {hooks}/askpass
[filter "own"]
 smudge = sed s/a/b/
 clean = cat
 required = true
[init]
 templateDir = {hooks}
 defaultObjectFormat = sha256
[remote "origin"]
 fetch = +refs/nothing/*:refs/nothing/*
[fetch]
 recurseSubmodules = true
 prune = true
[submodule]
 recurse = true
[color]
 ui = always
[extensions]
 worktreeConfig = true
"""

ATTRIBUTES = b"""
*.txt text eol=crlf
*.id ident
*.sub export-subst
*.utf16 text working-tree-encoding=UTF-16LE
*.own filter=own
secret export-ignore
"""


def test_nothing_in_a_configuration_changes_the_content(bench: Bench) -> None:
    hooks = bench.folder / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "reference-transaction", "fsmonitor", "askpass"):
        (hooks / name).write_text(f"#!/bin/sh\necho ran >> {bench.folder}/ran\n")
        (hooks / name).chmod(0o755)
    (bench.folder / "attributes").write_text("* text=auto ident eol=crlf filter=own\n")
    content = {
        "a.txt": b"aa\nbb\n",
        "mixed.txt": b"a\r\nb\n",
        "x.id": b"$Id$\n",
        "v.sub": b"$Format:%H$\n",
        "u.utf16": b"text\n",
        "f.own": b"aaa\n",
        "secret": b"kept\n",
        ".gitattributes": ATTRIBUTES,
    }
    blobs = {name: bench.git("hash-object", "-w", "--stdin", given=data) for name, data in content.items()}
    for name, blob in blobs.items():
        bench.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")
    bench.git("commit", "-q", "-m", "raw")
    commit = bench.git("rev-parse", "HEAD")
    bench.configure(HOSTILE.format(hooks=hooks, attributes=bench.folder / "attributes"))
    expected = {name: ("file", data) for name, data in content.items()}
    assert tree(bench.fetch(commit)) == expected
    assert tree(bench.fetch(commit, *content)) == expected
    assert not (bench.folder / "ran").exists()


def test_variables_of_a_surrounding_git_do_not_matter(bench: Bench) -> None:
    commit = bench.commit(a=b"1")
    scratch = bench.folder / "scratch"
    scratch.mkdir()
    environ = bench.environ | {
        "GIT_DIR": str(bench.folder / "elsewhere"),
        "GIT_INDEX_FILE": "/nowhere",
        "GIT_OBJECT_DIRECTORY": "/nowhere",
        "GIT_DEFAULT_HASH": "sha256",
        "GIT_NAMESPACE": "x",
    }
    source = GitSource(bench.origin.as_uri(), commit)
    to = bench.folder / "to"
    fetch_git(source, FIXED, to, scratch, "x", bench.events.append, bench.cancel, environ=environ)
    assert tree(to) == {"a": ("file", b"1")}


def test_a_submodule_is_an_empty_folder(bench: Bench) -> None:
    bench.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},lib/sub")
    bench.git("commit", "-q", "-m", "sub")
    to = bench.fetch(bench.git("rev-parse", "HEAD"), "lib")
    assert tree(to) == {"lib": ("folder", b""), "lib/sub": ("folder", b"")}


def test_a_server_without_filters_or_shallow_fetches(bench: Bench) -> None:
    commit = bench.commit(a=b"1", b=b"2")
    bench.commit(a=b"3")
    bench.git("update-server-info")
    with dumb_http(bench.origin) as url:
        assert tree(bench.fetch(commit, "a", url=f"{url}/.git")) == {"a": ("file", b"1")}


def test_a_commit_that_is_not_there(bench: Bench) -> None:
    bench.commit(a=b"1")
    error = bench.refused("1" * 40)
    assert error.code == "unreachable"
    assert "1" * 40 in error.message
    assert error.details
    assert error.hint


@pytest.mark.parametrize("commit", ["main", "", "1" * 39, "1" * 64, "A" * 40, "--upload-pack=x"])
def test_what_is_no_commit(bench: Bench, commit: str) -> None:
    assert bench.refused(commit).code == "recipe-invalid"


@pytest.mark.parametrize("url", ["/nowhere", "file:///nowhere", "--upload-pack=touch x", "ext::sh -c true"])
def test_a_repository_that_is_not_there(bench: Bench, url: str) -> None:
    assert bench.refused("1" * 40, url=url).code == "unreachable"


def test_a_connection_that_fails_is_tried_again(bench: Bench) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    error = bench.refused("1" * 40, "a", url=f"http://127.0.0.1:{port}/x")
    assert error.code == "unreachable"
    assert len(bench.events) == 1  # one failure noted, the second of the two attempts is the error


def test_no_git(bench: Bench) -> None:
    assert bench.refused("1" * 40, path=str(bench.folder)).code == "tool-missing"


def test_nobody_is_asked_for_a_password(bench: Bench) -> None:
    asks = Answer(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
    with Server(b"", [asks]) as server:
        start = time.monotonic()
        error = bench.refused("1" * 40, url=server.url)
    assert error.code == "unreachable"
    assert time.monotonic() - start < 10


def test_a_silent_server_is_left(bench: Bench) -> None:
    bench.limits = Limits(stall=0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"git://127.0.0.1:{silent.getsockname()[1]}/x"
        assert bench.refused("1" * 40, url=url).code == "fetch-stalled"


def test_a_fetch_that_takes_for_ever_is_ended(bench: Bench) -> None:
    bench.limits = Limits(total=0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"git://127.0.0.1:{silent.getsockname()[1]}/x"
        assert bench.refused("1" * 40, url=url).code == "fetch-stalled"


def test_cancelling_leaves_no_process(bench: Bench) -> None:
    with Server(b"", [Answer(hang_after=0)]) as server:
        timer = threading.Timer(0.5, bench.cancel.cancel)
        timer.start()
        start = time.monotonic()
        assert bench.refused("1" * 40, url=server.url).code == "interrupted"
        timer.join()
        assert time.monotonic() - start < 15
        assert server.requests
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                assert server.url.encode() not in process.read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue


@pytest.mark.parametrize(
    "name", [b"../x", b"a/../../x", b".git/config", b"a/.GIT/hooks/x", b"/etc/x", b"a//b", b"."]
)
def test_a_name_that_leads_elsewhere_is_refused(name: bytes) -> None:
    with pytest.raises(CcError) as caught:
        parse_tree(b"100644 blob " + b"1" * 40 + b"\t" + name + b"\0")
    assert caught.value.code == "archive-refused"


def raw_tree(bench: Bench, *entries: tuple[str, str, str]) -> str:
    """A tree object made of (mode, name, object id) without git's own checks."""
    data = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(key) for mode, name, key in entries)
    return bench.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", given=data)


def test_no_link_of_the_tree_leads_outside(bench: Bench) -> None:
    outside = bench.folder / "outside"
    outside.mkdir()
    link = bench.git("hash-object", "-w", "--stdin", given=os.fsencode(outside))
    blob = bench.git("hash-object", "-w", "--stdin", given=b"bad")
    below = raw_tree(bench, ("100644", "file", blob))
    top = raw_tree(bench, ("120000", "a", link), ("40000", "a", below))
    commit = bench.git("commit-tree", top, "-m", "hostile")
    bench.git("update-ref", "refs/heads/main", commit)
    assert bench.refused(commit).code == "archive-refused"
    assert list(outside.iterdir()) == []


def test_the_dispatcher_adds_the_place(bench: Bench) -> None:
    (bench.folder / "scratch").mkdir()
    step = Fetch("agent.source", FIXED, GitSource(str(bench.origin), "main"), "recipes/agent.yml:3:5")
    places = {"partials": bench.folder / "partials", "scratch": bench.folder / "scratch"}
    with pytest.raises(CcError) as caught:
        fetch(
            step,
            bench.folder / "to",
            mirrors=Mirrors({}),
            sink=bench.events.append,
            cancel=bench.cancel,
            **places,
        )
    assert caught.value.where == "recipes/agent.yml:3:5"
