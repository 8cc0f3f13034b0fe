"""A real nginx on a port of its own, that serves a folder and takes files by PUT, as the README configures it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import requires

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_nginx = requires(NGINX is not None, "nginx is not installed: .ci/run installs what the tests use")
PUT = "dav_methods PUT; create_full_put_path on; client_max_body_size 0;"


@dataclass
class Site:
    """A server that runs, the folder that it serves, and its access log (method, status, path, ranges)."""

    url: str
    folder: Path
    log: Path

    def requests(self) -> list[list[str]]:
        time.sleep(0.05)  # the log is written after the answer
        return [line.split() for line in self.log.read_text().splitlines()]


@contextmanager
def serving(top: Path, more: str = "", listen: str = "") -> Iterator[Site]:
    """Serves `top`/site; `more` is configuration of the server, `listen` how it does (`ssl http2`)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    top.chmod(0o755)
    temporary = "".join(
        f"{kind}_temp_path {top}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (top / "nginx.conf").write_text(
        f"daemon off; pid {top}/pid; error_log {top}/error.log; worker_processes 1;"
        f"{'user root;' if os.geteuid() == 0 else ''} events {{}}"
        f"http {{ log_format own '$request_method $status $uri $http_range $http_if_range';"
        f"access_log {top}/access.log own; {temporary}"
        f"server {{ listen 127.0.0.1:{port} {listen}; root {top}/site; {more} }} }}"
    )
    (top / "site").mkdir()
    process = subprocess.Popen([str(NGINX), "-c", str(top / "nginx.conf"), "-p", str(top)])
    try:
        deadline = time.monotonic() + 10
        while not _listens(port):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield Site(f"http://127.0.0.1:{port}", top / "site", top / "access.log")
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
