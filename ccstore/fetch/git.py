"""Fetches one commit of a git repository, or some paths of it, as plain files without `.git`.

The least is asked for first: the commit alone, without blobs when only some paths are wanted (those blobs are then
fetched together). A server that has no filters sends everything; one that serves no commits by name is asked for
all its branches and tags. What is written does not depend on which of these worked, nor on anybody's git
configuration (see ccstore.fetch.gittree). The NAR hash decides, and is checked when the tree is registered.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ccstore.errors import CcError
from ccstore.events import Sink
from ccstore.fetch.gitrun import DEFAULT_LIMITS, Git, GitError, Limits
from ccstore.fetch.gittree import TreeEntry, parse_tree, select, write_tree
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import GitSource
from ccstore.ports import Cancel
from ccstore.transfer.attempt import redacted

# not `origin`: a user's own configuration may say something of that one
_REMOTE = "ccstore-source"
_NO_BLOBS = "--filter=blob:none"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FETCH = ("fetch", "--quiet", "--progress", "--no-tags", "--no-write-fetch-head", "--no-auto-gc")


def fetch_git(
    source: GitSource,
    fixed: FixedOutput,
    to: Path,
    scratch: Path,
    label: str,
    sink: Sink,
    cancel: Cancel,
    *,
    environ: Mapping[str, str] = os.environ,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Writes the tree of the commit to the new folder `to`; `scratch` is an existing folder to work in.

    The hash of `fixed` is left to the caller. Raises `unreachable` (with what git said), `fetch-stalled`,
    `tool-missing`, `file-missing` (a path that the commit lacks), `archive-refused`, `disk-full`,
    `recipe-invalid`, `interrupted`.
    """
    if not _COMMIT.fullmatch(source.commit):
        raise CcError(
            "recipe-invalid",
            f"{label}: {source.commit!r} is no commit: 40 hexadecimal digits, not a branch or tag, pin one",
            hint=f"git ls-remote {redacted(source.url)}",
        )
    if fixed.method != "nar":
        raise CcError(
            "recipe-invalid",
            f"{label}: a git tree is identified by its NAR hash",
            hint="pin it with `ccstore lock`, or give the hash that `ccstore hash` prints of such a tree",
        )
    repository = scratch / "repository.git"
    git = Git(repository, environ, label, sink, cancel, limits)
    entries = _obtain(git, repository, source, label)
    try:
        with git.batch("cat-file", "--batch") as (asking, answering):
            write_tree(entries, to, asking, answering)
    except GitError as error:
        raise _unreachable(source, label, [str(error)]) from error


def _obtain(git: Git, repository: Path, source: GitSource, label: str) -> list[TreeEntry]:
    """Brings the commit and the blobs that are wanted of it; its entries. Raises `unreachable`.

    Each attempt has a new repository: one that was ever asked to filter fetches what it lacks behind our back,
    and from a plain web server each such fetch starts another, without end.
    """
    said: list[str] = []
    for arguments in _attempts(source):
        try:
            _create(git, repository, source)
            git.request(*_FETCH, *arguments)
            listing = git.output("ls-tree", "-r", "-z", "--full-tree", source.commit)
            entries = select(parse_tree(listing), source.paths)
            if _NO_BLOBS in arguments:
                _get_blobs(git, entries)
        except GitError as error:
            said.append(str(error))
            if error.transient:
                break
        else:
            return entries
    raise _unreachable(source, label, said)


def _attempts(source: GitSource) -> list[tuple[str, ...]]:
    commit = ("--depth=1", _REMOTE, source.commit)
    everything = (_REMOTE, "+refs/*:refs/ccstore/*")
    filtered = [(_NO_BLOBS, *commit)] if source.paths else []
    return [*filtered, commit, everything]


def _create(git: Git, repository: Path, source: GitSource) -> None:
    if repository.exists():
        shutil.rmtree(repository)
    # git's own defaults could ask for SHA-256 objects or bring hooks from a template
    git.run("init", "--quiet", "--bare", "--object-format=sha1", "--template=", str(repository))
    git.run("config", f"remote.{_REMOTE}.url", source.url)


def _get_blobs(git: Git, entries: Sequence[TreeEntry]) -> None:
    """Brings the blobs of `entries` in one request; left to itself, git would ask for one after the other."""
    ids = sorted({entry.id for entry in entries if entry.mode != "160000"})
    given = "".join(f"{each}\n" for each in ids)
    git.request(*_FETCH, _NO_BLOBS, "--stdin", _REMOTE, given=given.encode())


def _unreachable(source: GitSource, label: str, said: Sequence[str]) -> CcError:
    lines = dict.fromkeys(line for text in said for line in text.splitlines())
    return CcError(
        "unreachable",
        f"{label}: commit {source.commit} could not be had from {redacted(source.url)}",
        hint="check the network, and that the commit is on a branch or tag there; git's url.<base>.insteadOf "
        "sets a mirror",
        details=tuple(lines),
    )
