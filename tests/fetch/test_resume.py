"""Downloads that stop half-way and go on."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccstore.model.hashes import Sha256
from tests.fetch.bench import CHILD, CONTENT, Bench
from tests.fetch.server import Answer, Server


def test_a_body_cut_short_is_continued(bench: Bench) -> None:
    with Server(CONTENT, [Answer(cut_after=100_000), Answer(cut_after=50_000), Answer()]) as server:
        assert bench.fetch(server.url) == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert server.requests[1].headers["If-Range"] == '"one"'


def test_a_server_that_ignores_ranges_starts_anew(bench: Bench) -> None:
    with Server(CONTENT, [Answer(cut_after=100_000), Answer(ranges=False)]) as server:
        assert bench.fetch(server.url) == CONTENT
    assert len(server.requests) == 2


def test_a_file_that_changed_meanwhile_starts_anew(bench: Bench) -> None:
    old = Answer(cut_after=100_000, body=bytes(len(CONTENT)), etag='"old"')
    with Server(CONTENT, [old, Answer(etag='"new"')]) as server:
        assert bench.fetch(server.url) == CONTENT
    assert server.requests[1].headers["If-Range"] == '"old"'
    assert len(server.requests) == 2


def test_a_weak_etag_is_no_validator(bench: Bench) -> None:
    with Server(CONTENT, [Answer(cut_after=100_000, etag='W/"x"'), Answer(etag='W/"x"')]) as server:
        assert bench.fetch(server.url) == CONTENT
    assert "If-Range" not in server.requests[1].headers


def test_a_wrong_range_in_the_answer_starts_anew(bench: Bench) -> None:
    with Server(CONTENT, [Answer(cut_after=100_000), Answer(range_shift=7), Answer()]) as server:
        assert bench.fetch(server.url) == CONTENT
    assert server.ranges == [None, "bytes=100000-", None]


def test_a_range_beyond_the_end_starts_anew(bench: Bench) -> None:
    bench.partial.parent.mkdir()
    bench.partial.write_bytes(CONTENT + b"more")
    with Server(CONTENT) as server:
        assert bench.fetch(server.url) == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + 4}-", None]


def test_another_mirror_continues(bench: Bench) -> None:
    with Server(CONTENT, [Answer(cut_after=100_000), Answer(status=404)]) as one, Server(CONTENT) as two:
        assert bench.fetch(one.url, two.url) == CONTENT
    assert two.ranges == ["bytes=100000-"]
    assert "If-Range" not in two.requests[0].headers
    assert len(bench.warnings) == 1


def test_attempts_that_bring_something_do_not_use_up_patience(bench: Bench) -> None:
    with Server(CONTENT, [*[Answer(cut_after=30_000)] * 8, Answer()]) as server:
        assert bench.fetch(server.url) == CONTENT


def test_the_next_run_continues(bench: Bench) -> None:
    with Server(CONTENT, [Answer(cut_after=100_000), Answer(status=404)]) as server:
        assert bench.refused(server.url).code == "unreachable"
    assert bench.partial.stat().st_size == 100_000
    with Server(CONTENT) as server:
        assert bench.fetch(server.url) == CONTENT
    assert server.ranges == ["bytes=100000-"]


def test_a_whole_partial_file_needs_no_server(bench: Bench) -> None:
    bench.partial.parent.mkdir()
    bench.partial.write_bytes(CONTENT)
    assert bench.fetch("http://127.0.0.1:1/never") == CONTENT


@pytest.mark.parametrize("size", [None, len(CONTENT)])
@pytest.mark.parametrize("length", [10, len(CONTENT), len(CONTENT) + 1])
def test_a_spoiled_partial_file_is_started_anew(bench: Bench, length: int, size: int | None) -> None:
    bench.partial.parent.mkdir()
    bench.partial.write_bytes(b"x" * length)
    with Server(CONTENT) as server:
        assert bench.fetch(server.url, size=size) == CONTENT


def test_a_spoiled_note_of_the_origin_does_no_harm(bench: Bench) -> None:
    bench.partial.parent.mkdir()
    bench.partial.write_bytes(CONTENT[:10])
    bench.partial.with_name("file.origin").write_bytes(b'["\xff')
    with Server(CONTENT) as server:
        assert bench.fetch(server.url) == CONTENT


def test_a_killed_download_is_continued(bench: Bench) -> None:
    with Server(CONTENT, [Answer(hang_after=200_000), Answer()]) as server:
        arguments = [server.url, Sha256.of(CONTENT).hex, str(bench.to), str(bench.partial)]
        child = subprocess.Popen([sys.executable, "-c", CHILD, *arguments])
        deadline = time.monotonic() + 20
        while not (bench.partial.exists() and bench.partial.stat().st_size > 100_000):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        kept = bench.partial.stat().st_size
        assert bench.fetch(server.url) == CONTENT
    assert server.ranges == [None, f"bytes={kept}-"]


ANSWERS = st.lists(
    st.one_of(
        st.builds(Answer, cut_after=st.integers(0, 3000), ranges=st.booleans()),
        st.builds(Answer, with_length=st.just(False), cut_after=st.integers(0, 3000)),
        st.builds(Answer, range_shift=st.integers(0, 3)),
        st.builds(Answer, status=st.sampled_from([500, 503, 404, 416])),
        st.builds(Answer, body=st.binary(max_size=3000)),
    ),
    max_size=5,
)


@given(answers=ANSWERS, start=st.binary(max_size=50) | st.integers(0, 2500), data=st.binary(max_size=20))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_servers_do_the_file_is_right_or_not_there(
    bench: Bench, answers: Sequence[Answer], start: bytes | int, data: bytes
) -> None:
    content = hashlib.sha256(data).digest() * 70
    bench.to.unlink(missing_ok=True)
    bench.partial.parent.mkdir(exist_ok=True)
    bench.partial.write_bytes(content[:start] if isinstance(start, int) else start)
    with Server(content, answers or [Answer()]) as odd, Server(content) as good:
        code = bench.code(odd.url, content=content)
        assert code in (None, "hash-mismatch", "unreachable")
        assert bench.to.exists() == (code is None)
        if code:
            bench.fetch(good.url, content=content)
    assert bench.to.read_bytes() == content
