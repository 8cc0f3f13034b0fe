"""Builds on a real buildbox-casd: what is sent, lines that break, and what a worker does otherwise."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from ccstore.codec.reapi import message
from ccstore.codec.recas import Digest, Storage
from ccstore.codec.rechannel import Remote
from ccstore.codec.reclient import Client
from ccstore.errors import CcError
from ccstore.executor.remote import RemoteExecutor
from ccstore.ports import Cancel
from tests.cluster.proxy import Ask, Refusal, Traffic, proxy
from tests.lines import Line

from .conftest import Builds, PlainTree, alive, marker, unheard, wait_until

EXECUTORS = ("remote",)


@pytest.fixture
def traffic(casd: str) -> Iterator[tuple[str, Traffic]]:
    with proxy(casd) as both:
        yield both


@pytest.fixture
def line(traffic: tuple[str, Traffic]) -> Iterator[Line]:
    made = Line(int(traffic[0].rpartition(":")[2]))
    yield made
    made.cut()


def test_a_line_that_breaks_in_the_middle(builds: Builds, line: Line, traffic: tuple[str, Traffic]) -> None:
    """The build goes on, and its end is waited for over another connection."""
    mark = f"0.{marker().replace('.', '')}"
    builds.executor = RemoteExecutor(Remote(f"grpc://{line.place}"))
    flag = builds.place / "dropped"

    def drop() -> None:
        wait_until(lambda: alive(mark))
        line.drop()
        flag.touch()

    watch = threading.Thread(target=drop)
    watch.start()
    done = builds.run(f"sleep {mark}; sleep 2; echo x > $out", timeout=60)
    watch.join()
    assert (flag.exists(), done.result.outcome, done.out()) == (True, "built", "x\n")
    calls = traffic[1].calls
    assert calls["WaitExecution"] >= 1
    assert calls["Execute"] == 1


def test_a_service_that_is_not_there(builds: Builds, tmp_path: Path) -> None:
    builds.executor = RemoteExecutor(Remote(f"unix:{tmp_path}/nothing"))
    request = builds.request("true")
    with pytest.raises(CcError) as caught:
        builds.executor.build(request, unheard, Cancel())
    assert caught.value.code == "unreachable"
    assert list(request.scratch.iterdir()) == list(request.staging.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:1",
        "grpc://",
        "grpc://localhost",
        "grpcs://localhost:99999",
        "grpc://h:1/x",
        "unix:here",
    ],
)
def test_an_address_that_is_none(builds: Builds, url: str) -> None:
    builds.executor = RemoteExecutor(Remote(url))
    with pytest.raises(CcError) as caught:
        builds.run("true")
    assert caught.value.code == "usage"


def test_files_are_read_only_if_the_service_lacks_them(builds: Builds) -> None:
    tree = builds.tree("source", {"a": f"only here: {builds.place}\n", "b": "x" * 5_000_000})
    opened: list[str] = []

    class Watched(PlainTree):
        def open(self, path: str) -> Any:
            opened.append(path)
            return super().open(path)

    for script in ("cat /in/source/a > $out", "cat /in/source/* > $out"):
        builds.run(script, inputs={"source": Watched(tree.path)})
    assert sorted(opened) == ["a", "b"]


def test_the_action_cache_answers_unless_told_otherwise(builds: Builds, casd: str) -> None:
    script = f"cat /proc/sys/kernel/random/uuid > $out # {builds.place}"
    first, second = builds.run(script).out(), builds.run(script).out()
    assert first == second
    builds.executor = RemoteExecutor(Remote(casd), fresh=True)
    assert builds.run(script).out() != first
    builds.executor = RemoteExecutor(Remote(casd))
    assert builds.run(script).out() == first


def test_something_else_than_promised_is_an_integrity_error(builds: Builds, casd: str) -> None:
    text = f"promised to {builds.place}\n"
    script = f"echo 'promised to {builds.place}' > $out"
    assert builds.run(script).out() == text
    digest = hashlib.sha256(text.encode()).hexdigest()
    [blob] = Path(casd.removeprefix("unix:")).parent.glob(f"cache/cas/objects/{digest[:2]}/{digest[2:]}")
    blob.chmod(0o644)
    blob.write_text(text.replace("promised", "somewhat"))
    with pytest.raises(CcError) as caught:
        builds.run(script)
    assert caught.value.code == "hash-mismatch"
    assert caught.value.exit_status == 4


def test_a_blob_that_is_not_there(casd: str) -> None:
    with Client(Remote(casd)) as client, pytest.raises(CcError) as caught:
        Storage(client).read(Digest(hashlib.sha256(b"nowhere").hexdigest(), 7))
    assert caught.value.code == "remote-failed"


def test_names_that_are_no_text(builds: Builds) -> None:
    with pytest.raises(CcError) as caught:
        builds.run("mkdir $out; : > \"$out/$(printf '\\377')\"")
    assert caught.value.code == "output-invalid"
    tree = builds.tree("odd", {"x\udcff": ""})
    with pytest.raises(CcError) as caught:
        builds.run("true", inputs={"odd": tree})
    assert caught.value.code == "remote-unfit"


def test_links_empty_folders_and_programs_come_back(builds: Builds) -> None:
    done = builds.run(
        "mkdir -p $out/a/empty; ln -s /x $out/a/l; echo 1 > $out/p; chmod 755 $out/p; ln -s p $out/q"
    )
    assert done.tree() == {"": "/", "a": "/", "a/empty": "/", "a/l": "-> /x", "p": "*1\n", "q": "-> p"}


def test_inputs_cannot_be_written_to_unless_a_build_opens_them(builds: Builds) -> None:
    """It owns its copy of them; the next build has another."""
    tree = builds.tree("source", {"a/b": "text"})
    script = "for f in /in/x /in/source/a/b /bin/x /x; do echo x > $f; done"
    script += "; chmod 777 /in/source/a/b; echo y > /in/source/a/b"
    done = builds.run(
        f"({script}) 2>/dev/null; ls /in /in/source; cat /in/source/a/b", inputs={"source": tree}
    )
    assert done.log == "/in:\nsource\n\n/in/source:\na\ny\n"
    assert builds.run("cat /in/source/a/b", inputs={"source": tree}).log == "text"
    assert (tree.path / "a/b").read_text() == "text"


def test_a_kept_failure_is_kept_but_for_tmp(builds: Builds) -> None:
    done = builds.run("echo x > half; echo y > $out; exit 1", keep_failed=True)
    assert (done.request.scratch / "build/half").read_text() == "x\n"
    assert done.out() == "y\n"
    assert done.result.command == ""  # nothing here would build it again in the same way


@pytest.mark.parametrize("image", ["", "docker://registry.example.org/empty:1"])
def test_an_image_is_asked_for_only_if_it_is_configured(builds: Builds, casd: str, image: str) -> None:
    """The service has the action; nothing runs it, as casd would look for the image."""
    asked: list[Any] = []

    def watch(method: str, requests: Iterator[bytes], ask: Ask) -> Iterable[bytes]:
        if method == "Execute":
            asked.append(message("ExecuteRequest").FromString(next(requests)))
            raise Refusal(grpc.StatusCode.UNIMPLEMENTED)
        return ask(requests)

    with proxy(casd, respond=watch) as (url, _):
        builds.executor = RemoteExecutor(Remote(url, image=image))
        with pytest.raises(CcError):
            builds.run("true")
    with Client(Remote(casd)) as client:
        storage = Storage(client)
        action = message("Action").FromString(storage.read(Digest.read(asked[0].action_digest)))
        command = message("Command").FromString(storage.read(Digest.read(action.command_digest)))
    for described in (action, command):
        properties = [(each.name, each.value) for each in described.platform.properties]
        assert properties == sorted(properties)
        assert dict(properties).get("container-image", "") == image
