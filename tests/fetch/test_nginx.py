"""Ranges and validators as a real web server serves them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccstore.events import ignore
from ccstore.fetch.mirrors import Mirrors
from ccstore.fetch.url import fetch_url
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import UrlSource
from ccstore.model.hashes import Sha256
from ccstore.ports import Cancel

CONTENT = os.urandom(3 << 20)
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
ABSENT = NGINX is None and not os.environ.get("CCSTORE_REQUIRE_TOOLS")  # in CI it fails instead
pytestmark = pytest.mark.skipif(ABSENT, reason="nginx is not installed")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """The URL of a running nginx that serves the folder, and its access log (ranges and status)."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tmp_path.chmod(0o755)
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; worker_processes 1;"
        f"{'user root;' if os.geteuid() == 0 else ''} events {{}}"
        f"http {{ log_format own '$status $http_range $http_if_range'; access_log {tmp_path}/access.log own;"
        f"{temporary} server {{ listen 127.0.0.1:{port}; root {tmp_path}/site; }} }}"
    )
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "file").write_bytes(CONTENT)
    process = subprocess.Popen([str(NGINX), "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)])
    deadline = time.monotonic() + 10
    while not _listens(port):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}", tmp_path / "access.log"
    process.terminate()
    process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("kept", [0, 1, 1 << 20])
def test_a_range_is_continued(tmp_path: Path, site: tuple[str, Path], kept: int) -> None:
    base, log = site
    partial, to = tmp_path / "partial", tmp_path / "to"
    partial.write_bytes(CONTENT[:kept])
    source = UrlSource(("mirror://own/missing", "mirror://own/file"), len(CONTENT))
    fixed = FixedOutput("x", "flat", Sha256.of(CONTENT))
    fetch_url(source, fixed, to, Mirrors({"own": [base]}), "x", ignore, Cancel(), partial=partial)
    assert to.read_bytes() == CONTENT
    time.sleep(0.05)  # the log is written after the answer
    last = log.read_text().splitlines()[-1].split()
    assert last[:2] == (["206", f"bytes={kept}-"] if kept else ["200", "-"])
