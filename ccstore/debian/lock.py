"""Computes a lock: apt's own solver over the suite's signed index, run from our own pinned tree.

A host needs neither Debian nor root for it: apt, gpgv and the archive's keyring come from a tree that is itself
locked (recipe `apt`), and run in the sandbox with a network (`lock.sh` beside this file). The chain of trust: the
keyring in the pinned tree → the signature of the suite's InRelease → the index → each package's SHA-256.

An https mirror works where the host has certificates in /etc/ssl/certs, which the sandbox shows to builds with a
network; trust does not rest on them.
"""

from __future__ import annotations

import email.utils
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from pathlib import Path
from urllib.parse import unquote

from ccstore.debian.lockfile import Lock, LockedPackage, Release, Request
from ccstore.errors import CcError
from ccstore.ports import BuildRequest, BuildResult, Cancel, Executor, Tree

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
TIMEOUT = 600.0  # seconds
_NO_INDEX, _NO_SOLUTION = 10, 11
_UNTRUSTED = re.compile(
    r"not signed|NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|GPG error|signatures? (were|was|is) invalid"
)
_EXPIRED = re.compile(r"Release file for \S+ is expired \(invalid since (?P<since>[^)]+)\)")
_URI = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})")


def compute_lock(
    request: Request,
    *,
    apt: Tree,
    executor: Executor,
    mirrors: Sequence[str],
    workspace: Path,
    log: Callable[[bytes], None],
    cancel: Cancel,
    env: Mapping[str, str] | None = None,
    allow_expired: bool = False,
) -> Lock:
    """The lock for `request`, from the first of `mirrors` (base URLs of Debian archives) that can be reached.

    `apt` is the realised tree of the recipe `apt`; `workspace` an existing empty folder; `env` may name proxies
    (`http_proxy`, …). With `allow_expired` an index may be older than its Valid-Until: a mirror can then hide what is
    newer. Raises `signature-invalid` for an index that the keyring does not vouch for, `recipe-invalid` for a request
    that apt cannot meet, `index-expired` or `unreachable` when no mirror has an index, and `interrupted`.
    """
    options = "check-valid-until=no " if allow_expired else ""
    options += f"arch={request.architecture} signed-by={KEYRING}"
    unreachable: list[str] = []
    for number, mirror in enumerate(mirrors):
        folder = workspace / str(number)
        tail = _Tail(log)
        source = f"deb [{options}] {mirror.rstrip('/')} {request.suite} {request.component}\n"
        result = _run_apt(request, source, apt, executor, folder, tail, cancel, env or {})
        if result.outcome == "built":
            return _read_answer(request, mirror.rstrip("/"), folder / "staging" / "out")
        if result.outcome == "cancelled":
            raise CcError("interrupted", "the lock was not computed", hint="run the same command again")
        if result.exit_status != _NO_INDEX:
            raise _failure(request, result, tail.lines)
        if _UNTRUSTED.search("\n".join(tail.lines)):
            raise _untrusted(request, mirror, tail.lines)
        unreachable += [f"{mirror}:", *tail.lines[-5:]]
    raise _no_index(request, unreachable)


class _Tail:
    """Passes a build's output on and keeps its last lines."""

    def __init__(self, log: Callable[[bytes], None]) -> None:
        self._log = log
        self._bytes = b""

    def write(self, data: bytes) -> None:
        self._log(data)
        self._bytes = (self._bytes + data)[-16384:]

    @property
    def lines(self) -> list[str]:
        return self._bytes.decode("utf-8", "replace").splitlines()[-40:]


def _run_apt(
    request: Request,
    source: str,
    apt: Tree,
    executor: Executor,
    folder: Path,
    tail: _Tail,
    cancel: Cancel,
    env: Mapping[str, str],
) -> BuildResult:
    staging, scratch = folder / "staging", folder / "scratch"
    staging.mkdir(parents=True)
    scratch.mkdir()
    files = {
        "lock.sh": Path(__file__).with_name("lock.sh").read_text(encoding="utf-8"),
        "sources.list": source,
        "packages": "".join(f"{name}\n" for name in request.packages),
    }
    build = BuildRequest(
        label=f"lock of {len(request.packages)} packages of {request.suite}",
        root=apt,
        argv=("/usr/bin/bash", "/in/.builder/lock.sh"),
        staging=staging,
        scratch=scratch,
        files=files,
        env={"ARCHITECTURE": request.architecture, **env},
        timeout=TIMEOUT,
        network=True,
    )
    return executor.build(build, tail.write, cancel)


def _read_answer(request: Request, mirror: str, out: Path) -> Lock:
    index = (out / "InRelease").read_bytes()
    date = _check_release(request, index)
    lines = (out / "uris").read_text(encoding="utf-8").splitlines()
    packages = sorted((_package(line, mirror) for line in lines if line), key=lambda each: each.name)
    return Lock(request, Release(date, hashlib.sha256(index).hexdigest()), tuple(packages))


def _check_release(request: Request, index: bytes) -> str:
    """The index's date. A mirror can pass off another suite's index, signed as well: apt only warns of that."""
    from debian.deb822 import Release as ReleaseFile

    fields = ReleaseFile(index)
    if request.suite not in (fields.get("Codename"), fields.get("Suite")):
        raise CcError(
            "signature-invalid",
            f"the mirror gave the index of {fields.get('Codename')!r} for the suite {request.suite!r}",
            hint="use another mirror, or correct `suite`",
        )
    return email.utils.parsedate_to_datetime(fields["Date"]).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _package(line: str, mirror: str) -> LockedPackage:
    match = _URI.fullmatch(line)
    parts = unquote(match["file"]).removesuffix(".deb").split("_") if match else []
    if match is None or len(parts) != 3 or not match["uri"].startswith(f"{mirror}/"):
        raise CcError(
            "internal",
            f"apt answered with a line that is not understood: {line!r}",
            hint="this is a defect of ccstore: report it with that line",
        )
    name, version, architecture = parts
    path = unquote(match["uri"].removeprefix(f"{mirror}/"))
    return LockedPackage(name, version, architecture, path, int(match["size"]), match["sha256"])


def _no_index(request: Request, lines: list[str]) -> CcError:
    expired = _EXPIRED.search("\n".join(lines))
    if expired:
        return CcError(
            "index-expired",
            f"the index of {request.suite} has expired, {expired['since']} ago: there may be a newer one",
            hint="CCSTORE_MIRROR_DEBIAN names another mirror; --allow-expired is for one that is frozen on purpose",
            details=tuple(lines),
        )
    return CcError(
        "unreachable",
        f"no mirror gave the index of {request.suite}",
        hint="is the network up? CCSTORE_MIRROR_DEBIAN names another mirror",
        details=tuple(lines),
    )


def _untrusted(request: Request, mirror: str, lines: list[str]) -> CcError:
    return CcError(
        "signature-invalid",
        f"the index of {request.suite} is not signed by a key of the Debian archive",
        where=mirror,
        hint="use another mirror; for a new suite, first `ccstore lock apt` for a newer keyring",
        details=tuple(lines[-8:]),
    )


def _failure(request: Request, result: BuildResult, lines: list[str]) -> CcError:
    if result.outcome == "timeout":
        return CcError("unreachable", f"the mirror took longer than {TIMEOUT:g} s", hint="use another mirror")
    if result.exit_status == _NO_SOLUTION:
        return CcError(
            "recipe-invalid",
            f"apt finds no way to have these packages of {request.suite} {request.component}",
            hint="correct `packages` in the recipe",
            details=tuple(line for line in lines if line.startswith(("E:", " ")))[:20],
        )
    return CcError(
        "sandbox-failed",
        f"apt did not run in the sandbox (status {result.exit_status})",
        hint="`ccstore doctor` shows what this host cannot do",
        details=tuple(lines[-8:]),
    )
