"""Computing a lock with the pinned apt, in the sandbox, from a real mirror and from ones that cheat."""

from __future__ import annotations

import hashlib
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ccstore.debian.lock import KEYRING, compute_lock
from ccstore.debian.lockfile import Lock, Request
from ccstore.errors import CcError
from ccstore.executor.sandbox import Sandbox
from ccstore.fetch.mirrors import Mirrors
from ccstore.ports import Cancel, Tree
from tests.debian.debs import Downloaded

NOBODY = "http://127.0.0.1:9/debian"  # the port `discard`, where no web server is


@dataclass
class Locking:
    """Computes locks from `mirrors`; what apt printed is in `log`."""

    apt: Tree
    folder: Path
    mirrors: tuple[str, ...]
    log: bytes = b""

    def run(
        self,
        *packages: str,
        suite: str = "bookworm",
        cancel: Cancel | None = None,
        allow_expired: bool = False,
    ) -> Lock:
        return compute_lock(
            Request(suite, packages),
            apt=self.apt,
            executor=Sandbox(),
            mirrors=self.mirrors,
            workspace=self.folder,
            log=self._write,
            cancel=cancel or Cancel(),
            allow_expired=allow_expired,
        )

    def fail(self, *packages: str, **options: Any) -> CcError:
        with pytest.raises(CcError) as caught:
            self.run(*packages, **options)
        return caught.value

    def _write(self, data: bytes) -> None:
        self.log += data


@pytest.fixture
def locking(apt: Tree, mirrors: Mirrors, tmp_path: Path) -> Locking:
    return Locking(apt, tmp_path, mirrors.bases("debian"))


def test_lock_of_two_packages_is_their_closure(locking: Locking) -> None:
    """The first mirror does not answer, the next one serves."""
    locking.mirrors = (NOBODY, *locking.mirrors)
    lock = locking.run("bash", "patch")
    packages = {each.name: each for each in lock.packages}
    assert {"bash", "patch", "libc6", "libtinfo6"} <= packages.keys()
    assert "apt" not in packages  # what the tree that computes it has is not taken for installed
    assert list(packages) == sorted(packages)
    assert packages["patch"].path.startswith("pool/main/p/patch/patch_")
    assert all(each.architecture in ("amd64", "all") and each.size > 1000 for each in lock.packages)
    assert lock.release.date.endswith("Z")
    assert len(lock.release.sha256) == 64


def test_package_that_does_not_exist(locking: Locking) -> None:
    error = locking.fail("bash", "no-such-package")
    assert error.code == "recipe-invalid"
    assert any("no-such-package" in line for line in error.details)


def test_no_mirror_answers(locking: Locking) -> None:
    locking.mirrors = (NOBODY,)
    assert locking.fail("bash").code == "unreachable"


def test_interruption(locking: Locking) -> None:
    cancel = Cancel()
    cancel.cancel()
    assert locking.fail("bash", cancel=cancel).code == "interrupted"


@pytest.fixture
def index(mirrors: Mirrors) -> bytes:
    """The real InRelease of bookworm."""
    with urllib.request.urlopen(mirrors.bases("debian")[0] + "dists/bookworm/InRelease") as answer:
        return bytes(answer.read())


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


class _Renaming(_Quiet):
    """Passes bookworm, which the archive did sign, off as forky."""

    base = ""

    def do_GET(self) -> None:
        self.send_response(302)
        path = self.path.lstrip("/").replace("dists/forky", "dists/bookworm")
        self.send_header("Location", self.base + path)
        self.end_headers()


def mirror(folder: Path, suite: str, index: bytes) -> AbstractContextManager[str]:
    """An archive that has nothing but an InRelease."""
    place = folder / "dists" / suite
    place.mkdir(parents=True)
    (place / "InRelease").write_bytes(index)
    return serve(partial(_Quiet, directory=str(folder)))


@contextmanager
def serve(handler: Callable[..., SimpleHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_changed_index_is_not_believed(locking: Locking, index: bytes) -> None:
    changed = index.replace(b"Origin: Debian", b"Origin: Debiax", 1)
    assert changed != index
    with mirror(locking.folder / "web", "bookworm", changed) as url:
        locking.mirrors = (url,)
        assert locking.fail("bash").code == "signature-invalid"


def test_unsigned_index_is_not_believed(locking: Locking, index: bytes) -> None:
    begin = index.index(b"\n\n") + 2
    bare = index[begin : index.index(b"-----BEGIN PGP SIGNATURE")]
    with mirror(locking.folder / "web", "bookworm", bare) as url:
        locking.mirrors = (url,)
        assert locking.fail("bash").code == "signature-invalid"


def test_cheating_mirror_is_not_passed_over(locking: Locking, index: bytes) -> None:
    """Another mirror would do, but that one of them lies should be known."""
    with mirror(locking.folder / "web", "bookworm", index.replace(b"Debian", b"Debiax", 1)) as url:
        locking.mirrors = (url, *locking.mirrors)
        assert locking.fail("bash").code == "signature-invalid"


def test_other_suite_is_not_believed(locking: Locking) -> None:
    _Renaming.base = locking.mirrors[0]
    with serve(_Renaming) as url:
        locking.mirrors = (url,)
        error = locking.fail("bash", suite="forky")
    assert error.code == "signature-invalid"
    assert "bookworm" in error.message


INDEX = """\
Origin: Debian
Suite: unstable
Codename: sid
Date: Sat, 01 Aug 2026 00:00:00 UTC
Valid-Until: Sat, 08 Aug 2026 00:00:00 UTC
Acquire-By-Hash: no
Architectures: amd64
Components: main
SHA256:
 {sha256} {size} main/binary-amd64/Packages
"""
PACKAGES = (
    b"""\
Package: tiny
Version: 1
Architecture: amd64
Filename: pool/main/t/tiny/tiny_1_amd64.deb
Size: 1000
SHA256: %064d
Description: for a test

"""
    % 7
)


class Archive:
    """A small archive with a key of its own, which `locking` is made to trust."""

    def __init__(self, locking: Locking, gpg: str, gpgconf: str) -> None:
        self._gpgconf = gpgconf
        home = locking.folder / "gpg"
        home.mkdir(mode=0o700)
        self._gpg = (gpg, "--homedir", str(home), "--batch", "--quiet", "--passphrase", "", "--no-tty")
        self._run("--quick-generate-key", "test", "rsa2048", "sign", "never")
        apt = locking.folder / "apt"
        subprocess.run(["cp", "-al", locking.apt.path, apt], check=True)
        keyring = apt / KEYRING.lstrip("/")
        keyring.unlink()
        keyring.write_bytes(self._run("--export"))
        locking.apt = Downloaded(apt)

    def _run(self, *arguments: str, text: str = "") -> bytes:
        done = subprocess.run([*self._gpg, *arguments], input=text.encode(), capture_output=True, check=True)
        return done.stdout

    def write(self, folder: Path) -> None:
        place = folder / "dists/sid"
        (place / "main/binary-amd64").mkdir(parents=True)
        (place / "main/binary-amd64/Packages").write_bytes(PACKAGES)
        index = INDEX.format(sha256=hashlib.sha256(PACKAGES).hexdigest(), size=len(PACKAGES))
        (place / "InRelease").write_bytes(self._run("--clearsign", text=index))

    def close(self) -> None:
        """Ends the agent that gpg started."""
        subprocess.run([self._gpgconf, "--homedir", self._gpg[2], "--kill", "all"], check=True)


def test_an_index_that_has_expired(locking: Locking, tool: Callable[[str], str]) -> None:
    """It is refused, and taken by who says so; its signature is checked all the same."""
    web = locking.folder / "web"
    with closing(Archive(locking, tool("gpg"), tool("gpgconf"))) as archive:
        archive.write(web)
    with serve(partial(_Quiet, directory=str(web))) as url:
        locking.mirrors = (url,)
        refused = locking.fail("tiny", suite="sid")
        assert refused.code == "index-expired"
        assert "--allow-expired" in (refused.hint or "")
        locking.folder = locking.folder / "again"
        lock = locking.run("tiny", suite="sid", allow_expired=True)
        assert [(each.name, each.path) for each in lock.packages] == [
            ("tiny", "pool/main/t/tiny/tiny_1_amd64.deb")
        ]
        assert lock.release.date == "2026-08-01T00:00:00Z"
        index = web / "dists/sid/InRelease"
        index.write_bytes(index.read_bytes().replace(b"Origin: Debian", b"Origin: Debiax"))
        locking.folder = locking.folder / "changed"
        assert locking.fail("tiny", suite="sid", allow_expired=True).code == "signature-invalid"
