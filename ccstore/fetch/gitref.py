"""Where a branch or tag of a git repository is now (git-ls-remote(1))."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ccstore.errors import CcError
from ccstore.events import Sink
from ccstore.fetch.gitrun import DEFAULT_LIMITS, Git, GitError, Limits
from ccstore.ports import Cancel
from ccstore.transfer.attempt import redacted

HEAD, TAG = "refs/heads/", "refs/tags/"
PEELED = "^{}"  # what an annotated tag points to


def commit_of(
    url: str,
    name: str,
    scratch: Path,
    label: str,
    sink: Sink,
    cancel: Cancel,
    *,
    environ: Mapping[str, str] = os.environ,
    limits: Limits = DEFAULT_LIMITS,
) -> str:
    """The commit that branch or tag `name` of the repository at `url` is at; `scratch` is a folder to work in.

    A full name (`refs/heads/main`) is taken as it is. Raises `unreachable`, `not-found`, `recipe-invalid` for a name
    that is both a branch and a tag, and what running git raises.
    """
    repository, answer = scratch / "ref.git", scratch / "refs"
    git = Git(repository, environ, label, sink, cancel, limits)
    wanted = [name] if name.startswith("refs/") else [HEAD + name, TAG + name]
    patterns = [each + end for each in wanted for end in ("", PEELED)]
    try:
        git.run("init", "--quiet", "--bare", "--object-format=sha1", "--template=", str(repository))
        git.request("ls-remote", "--quiet", url, *patterns, answer=answer)
    except GitError as error:
        raise CcError(
            "unreachable",
            f"{label}: {redacted(url)} does not say where {name} is",
            hint="check the network and the URL; git's url.<base>.insteadOf sets a mirror",
            details=tuple(str(error).splitlines()),
        ) from error
    return _chosen(_parsed(answer.read_text(), wanted), name, label, url)


def _parsed(answer: str, wanted: list[str]) -> dict[str, str]:
    """The commit of each of the `wanted` names that is there; a pattern also matches longer names."""
    refs = {name: commit for commit, _, name in (line.partition("\t") for line in answer.splitlines())}
    return {name: refs.get(name + PEELED, refs[name]) for name in wanted if name in refs}


def _chosen(found: dict[str, str], name: str, label: str, url: str) -> str:
    if not found:
        raise CcError(
            "not-found",
            f"{label}: {redacted(url)} has no branch or tag {name}",
            hint=f"git ls-remote {redacted(url)} shows what it has",
        )
    if len(found) > 1:
        raise CcError(
            "recipe-invalid",
            f"{label}: {name} is both a branch and a tag of {redacted(url)}",
            hint=f"follow {HEAD}{name} or {TAG}{name}",
        )
    return next(iter(found.values()))
