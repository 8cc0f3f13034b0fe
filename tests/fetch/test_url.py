from __future__ import annotations

import os
import shlex
import socket
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.events import Progressed
from ccstore.fetch.mirrors import Mirrors
from ccstore.fetch.url import fetch_url
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import UrlSource
from ccstore.model.hashes import Sha256
from ccstore.transfer.partial import disk_errors
from ccstore.transfer.patience import Patience
from tests.conftest import unmet
from tests.fetch.bench import CHILD, CONTENT, HASTY, Bench, closed_port
from tests.fetch.server import Answer, Server


@pytest.mark.parametrize(("executable", "mode"), [(False, 0o444), (True, 0o555)])
def test_a_file_arrives(bench: Bench, executable: bool, mode: int) -> None:
    with Server(CONTENT) as server:
        assert bench.fetch(server.url, size=len(CONTENT), executable=executable) == CONTENT
    assert stat.S_IMODE(bench.to.stat().st_mode) == mode
    assert list(bench.partial.parent.iterdir()) == []
    assert bench.events[-1] == Progressed("kernel.source", len(CONTENT), len(CONTENT), "bytes")


def test_an_empty_file_arrives(bench: Bench) -> None:
    with Server(b"") as server:
        assert bench.fetch(server.url, content=b"") == b""


def test_progress_is_reported_about_ten_times_a_second(bench: Bench) -> None:
    seconds = iter(number / 100 for number in range(1_000_000))
    bench.patience = Patience(clock=lambda: next(seconds))
    content = bytes(4 << 20)
    with Server(content) as server:
        bench.fetch(server.url, content=content)
    reports = [event.done for event in bench.events if isinstance(event, Progressed)]
    assert reports == sorted(reports)
    assert 2 <= len(reports) <= 1 + (4 << 20) // 4096 // 10 + 1


def test_a_failing_server_is_tried_again(bench: Bench) -> None:
    with Server(CONTENT, [Answer(status=503), Answer(status=500), Answer()]) as server:
        assert bench.fetch(server.url) == CONTENT
    assert len(server.requests) == 3


def test_a_failing_server_is_given_up(bench: Bench) -> None:
    with Server(CONTENT, [Answer(status=503)]) as server:
        error = bench.refused(server.url)
    assert error.code == "unreachable"
    assert len(server.requests) == HASTY.attempts
    assert [f"{server.url}: HTTP 503 Service Unavailable"] == list(error.details)


def test_pauses_grow_and_are_never_the_whole() -> None:
    patience = Patience(first_pause=1.0, longest_pause=5.0, jitter=lambda: 0.0)
    assert [patience.pause(failures) for failures in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 2.5]


def test_retry_after_is_waited_for(bench: Bench) -> None:
    busy = Answer(status=429, headers={"Retry-After": "1"})
    with Server(CONTENT, [busy, Answer()]) as server:
        start = time.monotonic()
        assert bench.fetch(server.url) == CONTENT
    assert time.monotonic() - start >= 1.0


@pytest.mark.parametrize("when", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_long_retry_after_means_the_next_mirror(bench: Bench, when: str) -> None:
    with (
        Server(CONTENT, [Answer(status=503, headers={"Retry-After": when})]) as busy,
        Server(CONTENT) as idle,
    ):
        assert bench.fetch(busy.url, idle.url) == CONTENT
    assert len(busy.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
def test_a_missing_file_means_the_next_url_at_once(bench: Bench, status: int) -> None:
    with Server(CONTENT, [Answer(status=status)]) as one, Server(CONTENT) as two:
        assert bench.fetch(one.url, two.url) == CONTENT
    assert len(one.requests) == 1


def test_a_wrong_hash_means_the_next_url_at_once(bench: Bench) -> None:
    with Server(b"other") as one, Server(CONTENT) as two:
        assert bench.fetch(one.url, two.url) == CONTENT
    assert len(one.requests) == 1
    assert two.ranges == [None]


def test_a_wrong_hash_says_wanted_and_got_and_where(bench: Bench) -> None:
    with Server(b"other") as one, Server(CONTENT, [Answer(status=404)]) as two:
        error = bench.refused(two.url, one.url)
    assert error.code == "hash-mismatch"
    assert error.exit_status == 4
    text = "\n".join(error.details)
    for part in (Sha256.of(CONTENT).sri, Sha256.of(b"other").sri, one.url, two.url, "404"):
        assert part in text
    assert one.url in error.message
    assert "ccstore lock" in (error.hint or "")
    assert not bench.partial.exists()


@pytest.mark.parametrize("with_length", [True, False])
def test_a_wrong_size_is_refused_early(bench: Bench, with_length: bool) -> None:
    content = bytes(20 << 20)
    with Server(content, [Answer(with_length=with_length)]) as server:
        error = bench.refused(server.url, content=content, size=1000)
    assert error.code == "hash-mismatch"
    assert not bench.partial.exists()


def test_a_shorter_body_without_length_is_a_cut(bench: Bench) -> None:
    with Server(CONTENT, [Answer(with_length=False, cut_after=9000), Answer()]) as server:
        assert bench.fetch(server.url, size=len(CONTENT)) == CONTENT
    assert server.ranges == [None, "bytes=9000-"]


@pytest.mark.parametrize("with_length", [True, False])
def test_a_file_of_unknown_size_is_not_taken_for_ever(bench: Bench, with_length: bool) -> None:
    bench.patience = Patience(max_size=1000)
    with Server(CONTENT, [Answer(with_length=with_length)]) as server:
        assert bench.refused(server.url).code == "fetch-too-large"


def test_a_server_that_hangs_is_left_for_the_next(bench: Bench) -> None:
    bench.stall_timeout = 0.3
    with Server(CONTENT, [Answer(hang_after=500)]) as one, Server(CONTENT) as two:
        assert bench.fetch(one.url, two.url) == CONTENT
    assert len(one.requests) == 1
    assert two.ranges == ["bytes=500-"]


def test_servers_that_all_hang(bench: Bench) -> None:
    bench.stall_timeout = 0.2
    with Server(CONTENT, [Answer(hang_after=0)]) as one, Server(CONTENT, [Answer(hang_after=99)]) as two:
        error = bench.refused(one.url, two.url)
    assert error.code == "fetch-stalled"
    assert len(error.details) == 2


def test_a_server_that_accepts_and_says_nothing(bench: Bench) -> None:
    bench.stall_timeout = 0.2
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert bench.refused(f"http://127.0.0.1:{silent.getsockname()[1]}/x").code == "fetch-stalled"


def test_nobody_there_lists_every_url(bench: Bench) -> None:
    bases = [f"http://127.0.0.1:{closed_port()}/a", f"http://127.0.0.1:{closed_port()}/b"]
    with pytest.raises(CcError) as caught:
        bench.fetch("mirror://own/x", "http://[bad/", "ftp://example.org/x", mirrors=Mirrors({"own": bases}))
    error = caught.value
    assert error.code == "unreachable"
    assert error.exit_status == 6
    for url, line in zip(
        [*(f"{base}/x" for base in bases), "http://[bad/", "ftp://example.org/x"], error.details, strict=True
    ):
        assert line.startswith(url + ": ")


def test_a_mirror_unknown_here_is_passed_over(bench: Bench) -> None:
    with Server(CONTENT) as server:
        assert bench.fetch("mirror://nowhere/x", server.url) == CONTENT
    bench.to.unlink()
    assert bench.refused("mirror://nowhere/x").code == "mirror-unknown"


def test_a_redirect_is_followed(bench: Bench) -> None:
    with Server(CONTENT) as two, Server(b"", [Answer(status=302, headers={"Location": two.url})]) as one:
        assert bench.fetch(one.url) == CONTENT


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://example.org/x", "/file"])
def test_a_redirect_elsewhere_or_in_a_circle_is_refused(bench: Bench, target: str) -> None:
    with Server(b"", [Answer(status=302, headers={"Location": target})]) as server:
        assert bench.refused(server.url).code == "unreachable"


def test_a_password_in_a_url_is_used_and_not_shown(bench: Bench) -> None:
    with Server(CONTENT, [Answer(status=403)]) as server:
        url = server.url.replace("//", "//me:secret@")
        error = bench.refused(url)
    assert server.requests[0].headers["Authorization"].startswith("Basic ")
    assert "secret" not in repr((error.message, error.details, bench.events))


def test_the_proxy_of_the_environment_is_used(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(CONTENT) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        assert bench.fetch("http://nowhere.invalid/file") == CONTENT
    assert proxy.requests[0].path == "http://nowhere.invalid/file"


@pytest.mark.parametrize("hang_after", [0, 5000])
def test_cancelling_ends_a_hanging_download_and_keeps_what_came(bench: Bench, hang_after: int) -> None:
    with Server(CONTENT, [Answer(hang_after=hang_after)]) as server:
        timer = threading.Timer(0.3, bench.cancel.cancel)
        timer.start()
        start = time.monotonic()
        error = bench.refused(server.url)
        timer.join()
    assert error.code == "interrupted"
    assert time.monotonic() - start < 15
    assert (bench.partial.stat().st_size if bench.partial.exists() else 0) == hang_after


def test_cancelling_ends_a_pause(bench: Bench) -> None:
    bench.patience = Patience(first_pause=60.0, longest_pause=60.0)
    timer = threading.Timer(0.2, bench.cancel.cancel)
    timer.start()
    assert bench.refused(f"http://127.0.0.1:{closed_port()}/x").code == "interrupted"
    timer.join()


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(CcError) as caught, disk_errors(tmp_path), Path("/dev/full").open("wb", 0) as full:
        full.write(b"x")
    assert caught.value.code == "disk-full"


def test_a_disk_that_fills_up_ends_the_download(bench: Bench) -> None:
    small = bench.folder / "small"
    small.mkdir()
    mount = f"mount -t tmpfs -o size=64k none {small}"
    probe = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, text=True)
    if probe.returncode:
        unmet(f"no tmpfs can be mounted in a user namespace here: {probe.stderr.strip()}")
    with Server(CONTENT) as server:
        arguments = [server.url, Sha256.of(CONTENT).hex, str(small / "to"), str(small / "partial")]
        command = shlex.join([sys.executable, "-c", CHILD, *arguments])
        child = subprocess.run(
            ["unshare", "-rm", "sh", "-c", f"{mount} && {command}"], capture_output=True, text=True
        )
    assert "[disk-full]" in child.stderr
    assert len(server.requests) == 1


def test_memory_stays_constant(bench: Bench) -> None:
    content = bytes(32 << 20)
    with Server(content) as server:
        bench.fetch("file:///nothing", server.url, content=content)  # imports and buffers are not counted
        bench.to.unlink()
        tracemalloc.start()
        try:
            source = UrlSource((server.url,))
            fixed = FixedOutput("file", "flat", Sha256.of(content))
            mirrors, events = Mirrors({}), bench.events.append
            fetch_url(source, fixed, bench.to, mirrors, "x", events, bench.cancel, partial=bench.partial)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 4 << 20


def test_a_local_file(bench: Bench) -> None:
    original = bench.folder / "a file%"
    original.write_bytes(CONTENT)
    assert bench.fetch(original.as_uri(), size=len(CONTENT)) == CONTENT
    assert original.read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "elsewhere"])
def test_what_is_no_local_file(bench: Bench, kind: str) -> None:
    path = bench.folder / kind
    if kind == "folder":
        path.mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    url = "file://example.org/x" if kind == "elsewhere" else path.as_uri()
    assert bench.refused(url).code == "unreachable"


def test_a_local_file_with_another_hash(bench: Bench) -> None:
    (bench.folder / "other").write_bytes(b"other")
    assert bench.refused((bench.folder / "other").as_uri()).code == "hash-mismatch"


def test_httpx_is_imported_only_to_download() -> None:
    code = "import sys, ccstore.fetch.fetch; sys.exit('httpx' in sys.modules or 'debian' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
