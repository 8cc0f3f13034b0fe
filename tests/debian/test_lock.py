"""Computing a lock with the pinned apt, in the sandbox, from a real mirror and from ones that cheat."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ccstore.debian.lock import compute_lock
from ccstore.debian.lockfile import Lock, Request
from ccstore.errors import CcError
from ccstore.executor.sandbox import Sandbox
from ccstore.fetch.mirrors import Mirrors
from ccstore.ports import Cancel, Tree

NOBODY = "http://127.0.0.1:9/debian"  # the port `discard`, where no web server is


@dataclass
class Locking:
    """Computes locks from `mirrors`; what apt printed is in `log`."""

    apt: Tree
    folder: Path
    mirrors: tuple[str, ...]
    log: bytes = b""

    def run(self, *packages: str, suite: str = "bookworm", cancel: Cancel | None = None) -> Lock:
        return compute_lock(
            Request(suite, packages),
            apt=self.apt,
            executor=Sandbox(),
            mirrors=self.mirrors,
            workspace=self.folder,
            log=self._write,
            cancel=cancel or Cancel(),
        )

    def fail(self, *packages: str, suite: str = "bookworm", cancel: Cancel | None = None) -> CcError:
        with pytest.raises(CcError) as caught:
            self.run(*packages, suite=suite, cancel=cancel)
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
