"""Builds and downloads that go wrong, and what is left of them: a log, an explanation and a whole store."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Project, assert_whole, built, code, place, processes_with
from tests.fetch.server import Answer, Server


def test_a_build_that_fails(small: Project) -> None:
    small.script("x", "echo some words", "echo 'main.c:7:3: error: expected a semicolon' >&2", "exit 5")
    found = small.fails("realize", "x")
    assert (found.returncode, code(found.stderr)) == (3, "build-failed")
    assert "exit status 5" in found.stderr
    assert "main.c:7:3: error: expected a semicolon" in found.stderr
    assert place(found.stderr).startswith("recipes/x.yml:")
    assert small.shell.run("log", "x").stdout.splitlines()[0] == "some words"
    assert code(small.shell.run("path", "x", status=5).stderr) == "not-realised"


def test_a_build_that_hangs(small: Project) -> None:
    marker = f"314159.{small.root.stat().st_ino}"
    small.script("x", "echo begun", f"(trap '' TERM; sleep {marker} &); sleep {marker}", timeout="2s")
    found = small.fails("realize", "x")
    assert (found.returncode, code(found.stderr)) == (3, "build-timeout")
    assert "2 s" in found.stderr
    assert processes_with(marker) == []
    assert small.shell.run("log", "x").stdout == "begun\n"


@pytest.mark.parametrize(
    "path", ["/usr/bin/extra", "/in/tree/file", "/etc/passwd", "/proc/sys/kernel/core_pattern"]
)
def test_a_build_that_writes_where_it_may_not(small: Project, path: str) -> None:
    (small.root / "tree").mkdir()
    (small.root / "tree/file").write_text("mine\n")
    small.script("x", f"echo evil >{path}", "touch /out/out", inputs="{tree: {path: ../tree}}")
    found = small.fails("realize", "x")
    assert (found.returncode, code(found.stderr)) == (3, "build-failed")
    assert "Read-only file system" in found.stderr
    assert "/out, /build and /tmp only" in found.stderr
    assert (small.root / "tree/file").read_text() == "mine\n"


SOCKET = "import socket; socket.socket(socket.AF_UNIX).bind('/out/out/s')"


@pytest.mark.parametrize(
    ("script", "expected", "told"),
    [
        ("true", "output-missing", "/out/out"),
        ("touch /out/out /out/more", "output-invalid", "/out/more"),
        ("mkfifo /out/out", "output-invalid", "FIFO"),
        (f'mkdir /out/out; python3 -c "{SOCKET}"', "output-invalid", "socket"),
    ],
    ids=["missing", "one too many", "FIFO", "socket"],
)
def test_an_output_that_is_none(small: Project, script: str, expected: str, told: str) -> None:
    small.script("x", script)
    found = small.fails("realize", "x")
    assert (found.returncode, code(found.stderr)) == (3, expected)
    assert told in found.stderr


def test_a_failed_build_is_kept_when_asked(small: Project) -> None:
    small.script("x", "echo evidence >/build/evidence", "echo again", "exit 3")
    found = small.shell.run("realize", "--keep-failed", "x", status=3)
    [kept] = re.findall(r"kept at (/[^;]+);", found.stderr)
    assert (Path(kept) / "build/evidence").read_text() == "evidence\n"
    assert Path(kept).stat().st_mode & 0o777 == 0o700  # a build may leave set-uid files
    without = small.shell.run("realize", "x", status=3)
    assert "--keep-failed" in without.stderr
    assert len(list(Path(kept).parent.iterdir())) == 1
    assert_whole(small.shell)


def test_the_command_of_a_kept_build_gives_the_same_sandbox(small: Project) -> None:
    small.script("x", "test -e /build/mended || { echo broken; exit 3; }", "echo mended | tee /out/out")
    found = small.shell.run("realize", "--keep-failed", "x", status=3)
    [kept] = re.findall(r"kept at (/[^;]+);", found.stderr)
    [again] = re.findall(r"`sh (/.*)` runs it again on that", found.stderr)

    def run_again() -> tuple[int, str]:
        done = subprocess.run(["sh", again], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout

    assert run_again() == (3, "broken\n")
    (Path(kept) / "build/mended").touch()
    assert run_again() == (0, "mended\n")
    assert (Path(kept) / "out/out").read_text() == "mended\n"
    assert_whole(small.shell)


def test_verbose_shows_the_build_on_stderr(small: Project) -> None:
    small.script("x", "echo some words", "echo >/out/out")
    done = small.shell.run("realize", "--verbose", "x")
    assert "x> some words" in done.stderr.splitlines()
    assert done.stdout == f"{small.shell.path('x')}\n"


CONTENT = b"what the recipe wants" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def url_recipe(project: Project, *urls: str, digest: str = DIGEST, more: str = "") -> None:
    project.recipe("x", f"kind: url\nurl: [{', '.join(urls)}]\nsha256: {digest}\n{more}")


def test_a_hash_that_does_not_match(small: Project) -> None:
    with Server(b"something else") as server:
        url_recipe(small, server.url)
        found = small.fails("realize", "x")
    assert (found.returncode, code(found.stderr)) == (4, "hash-mismatch")
    for word in (server.url, "wanted sha256-", "got    sha256-"):
        assert word in found.stderr


def test_a_file_whose_hash_does_not_match(small: Project) -> None:
    file = small.root / "file"
    file.write_bytes(CONTENT + b"!")
    url_recipe(small, f"file://{file}")
    found = small.fails("realize", "x")
    assert (found.returncode, code(found.stderr)) == (4, "hash-mismatch")


def test_a_truncated_download(small: Project) -> None:
    with Server(CONTENT, (Answer(cut_after=900),)) as server:
        url_recipe(small, server.url)
        found = small.fails("realize", "x")
    assert (found.returncode, code(found.stderr)) == (6, "unreachable")
    assert server.url in found.stderr
    assert len(server.requests) > 1, "it was not tried again"


def test_a_truncated_download_goes_on_where_it_ended(small: Project) -> None:
    with Server(CONTENT, (Answer(cut_after=9000), Answer())) as server:
        url_recipe(small, server.url)
        [path] = small.shell.realize("x")
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=9000-"]
    assert_whole(small.shell)


def test_a_server_that_hangs(small: Project) -> None:
    with Server(CONTENT, (Answer(hang_after=900),)) as server:
        url_recipe(small, server.url, more="stall-timeout: 1s\n")
        found = small.fails("realize", "x")
    assert (found.returncode, code(found.stderr)) == (6, "fetch-stalled")
    assert server.url in found.stderr


def test_the_next_alternative_is_asked(small: Project) -> None:
    with Server(b"", (Answer(status=404),)) as gone, Server(b"wrong") as wrong, Server(CONTENT) as good:
        url_recipe(small, gone.url, wrong.url, good.url)
        done = small.shell.run("realize", "x")
    assert Path(done.stdout.strip()).read_bytes() == CONTENT
    assert f"warning: x: {gone.url}" in done.stderr
    assert f"warning: x: {wrong.url}" in done.stderr


def test_what_was_downloaded_is_not_asked_for_again(small: Project) -> None:
    with Server(CONTENT) as server:
        url_recipe(small, server.url)
        small.shell.run("realize", "x")
        url_recipe(small, "https://mirror.invalid/other", server.url)
        small.shell.run("realize", "x")
    assert len(server.requests) == 1


def test_a_server_that_is_not_there(small: Project) -> None:
    with Server(b"") as server:
        url = server.url
    url_recipe(small, url)
    found = small.fails("realize", "x")
    assert (found.returncode, code(found.stderr)) == (6, "unreachable")


def test_a_local_file_that_vanished(small: Project) -> None:
    url_recipe(small, "file:///nowhere/at/all")
    found = small.fails("realize", "x")
    assert (found.returncode, code(found.stderr)) == (6, "unreachable")


def test_an_irreproducible_build_is_told(small: Project) -> None:
    small.script("x", "cat /proc/sys/kernel/random/uuid >/out/out")
    [first] = small.shell.realize("x")
    small.shell.run("root", "remove", "small/x")
    small.script("y", "cat /in/x >/out/out", inputs="{x: x}")
    small.shell.run("realize", "y")
    small.shell.run("gc", "--no-keep-inputs")
    again = small.shell.run("realize", "x")
    assert built(again.stderr) == ["x"]
    assert "not reproducible" in again.stderr
    assert Path(again.stdout.strip()) != first


def test_a_view_of_a_plain_file(small: Project) -> None:
    small.recipe("file", "kind: path\npath: ccstore.yml\n")
    small.script("x", "true", inputs="{file: file}", overlays="{out: file}")
    found = small.fails("realize", "x")
    assert (found.returncode, code(found.stderr)) == (2, "recipe-invalid")
    assert place(found.stderr).startswith("recipes/x.yml:")
    assert "output out cannot be a view of file" in found.stderr
