"""A build that reads or changes what is not its own."""

from __future__ import annotations

import threading
from pathlib import Path

from ccstore.executor.sandbox import Sandbox
from ccstore.ports import Cancel
from ccstore.store.store import Store

from .attacking import Attacks, outside, succeeded
from .conftest import PlainTree, wait_until

INPUT = {"file": "text", "run": "#!/bin/sh", "folder/inside": "1"}


def state(path: Path) -> dict[str, tuple[int, int, int, int, bytes]]:
    """All that can be seen of a tree's inodes, and what is in them."""
    found = {}
    for each in (path, *sorted(path.rglob("*"))):
        status = each.lstat()
        content = each.read_bytes() if each.is_file() else b""
        found[str(each)] = (status.st_mode, status.st_mtime_ns, status.st_uid, status.st_nlink, content)
    return found


def test_nothing_of_the_host_can_be_read(attacks: Attacks) -> None:
    """A user's file, the store's database, and what another build is writing at the same time."""
    place, cancel, log = attacks.builds.place, Cancel(), bytearray()
    (place / "secret").write_text("s3cret")
    other = attacks.builds.request("echo s3cret > $out; echo begun; sleep 60")
    neighbour = threading.Thread(target=Sandbox().build, args=(other, log.extend, cancel))
    neighbour.start()
    try:
        wait_until(lambda: b"begun" in log)
        with Store.open(place / "store") as store:
            secrets = (place / "secret", store.root / "index.sqlite", other.staging / "out")
            inputs = {"input": attacks.builds.tree("input", INPUT)}
            done = attacks.all_fail("files.reads_the_host", *secrets, wanted=55, inputs=inputs)
            readable = succeeded(outside("files.reads_the_host", *secrets))
    finally:
        cancel.cancel()
        neighbour.join()
    assert "s3cret" not in done.log
    assert {f"{each.name} by its name" for each in secrets} <= readable.keys()


def test_there_is_no_way_out_of_the_root(attacks: Attacks) -> None:
    (attacks.builds.place / "secret").write_text("s3cret")
    inputs = {"input": attacks.builds.tree("input", INPUT)}
    attacks.all_fail("files.leaves_the_root", attacks.builds.place / "secret", wanted=18, inputs=inputs)


def test_inputs_and_the_toolchain_cannot_be_changed(attacks: Attacks) -> None:
    tree = attacks.builds.tree("input", INPUT)
    program = attacks.root.path / "usr/bin/env"
    before = state(tree.path), state(program)
    attacks.all_fail("files.changes_inputs", wanted=49, inputs={"input": tree})
    assert (state(tree.path), state(program)) == before


def test_what_is_done_to_a_view_does_not_reach_the_input(attacks: Attacks) -> None:
    tree = attacks.builds.tree("input", INPUT)
    before = state(tree.path)
    done = attacks.run("files.works_on_a_view", inputs={"input": tree}, overlays={"out": "input"})
    assert done.result.outcome == "built", done.log
    assert (done.request.staging / "out/again").read_text().startswith("changed")
    assert state(tree.path) == before


def test_a_link_in_an_input_leads_nowhere(attacks: Attacks) -> None:
    """What an input links to is looked for inside of the sandbox."""
    place = attacks.builds.place
    (place / "secret").write_text("s3cret")
    tree = place / "trees/links"
    tree.mkdir(parents=True)
    (tree / "file").symlink_to(place / "secret")
    (tree / "up").symlink_to("../" * 40 + str(place / "secret").lstrip("/"))
    done = attacks.builds.run("cat /in/links/file || cat /in/links/up", inputs={"links": PlainTree(tree)})
    assert done.result.outcome == "failed"
    assert "s3cret" not in done.log
