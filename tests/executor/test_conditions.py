"""The same build under other conditions than every build has: what a check varies inside of the sandbox."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ccstore.executor.sandbox import Sandbox
from ccstore.ports import Cancel, Conditions
from tests.conftest import write

from .conftest import Builds, PlainTree

OTHER = Conditions(
    hostname="another",
    domain="another.example",
    user="somebody",
    uid=4242,
    gid=4343,
    build="/home/somebody/a/longer/path",
    umask=0o027,
    random_addresses=True,
)
WHERE = "hostname; cat /proc/sys/kernel/domainname; id -u; id -g; echo $USER $LOGNAME; pwd; echo $HOME; umask"


def test_a_build_says_what_it_saw(builds: Builds) -> None:
    before = time.time()
    seen = dict(builds.run("true", cores=3).result.seen)
    assert before - 1 <= float(seen.pop("clock")) <= time.time() + 1
    assert seen == {
        "hostname": "ccstore",
        "kernel": os.uname().release,
        "user": "1000:1000",
        "path": "/build",
        "umask": "0022",
        "addresses": "fixed",
        "processors": str(len(os.sched_getaffinity(0))),
        "jobs": "3",
    }


def test_a_command_that_cannot_start_has_seen_as_much(builds: Builds) -> None:
    assert builds.run("", argv=("nowhere",)).result.seen["path"] == "/build"


def test_every_condition_can_be_another(builds: Builds) -> None:
    done = builds.run(WHERE, conditions=OTHER)
    home = "/home/somebody/a/longer/path"
    told = [
        "another",
        "another.example",
        "4242",
        "4343",
        "somebody somebody",
        home,
        home,
        "0027",
    ]
    assert done.log.splitlines() == told
    seen = done.result.seen
    names = ("hostname", "user", "path", "umask", "addresses")
    assert [seen[name] for name in names] == ["another", "4242:4343", home, "0027", "random"]


def test_build_leads_to_where_the_build_is(builds: Builds) -> None:
    script = "echo x > /build/file; cat file; cd /build; pwd -P; readlink /build; ls / | tr '\\n' ' '"
    done = builds.run(script, conditions=OTHER)
    home = OTHER.build
    assert done.log.splitlines() == ["x", home, home, "bin build dev etc home in out proc tmp usr "]


def test_the_other_root_is_read_only_too(builds: Builds) -> None:
    attempts = ("echo x > /x", "echo x >> /etc/passwd", "chmod 777 /bin", "rm /build", "mkdir /home/x")
    script = "".join(f"({each}) 2>/dev/null && echo '{each}'\n" for each in attempts)
    assert builds.run(script + "true", conditions=OTHER).log == ""


def test_another_user_is_known_by_name_where_users_are(builds: Builds) -> None:
    root = copied_root(builds)
    write(root.path / "etc/passwd", "root:x:0:0::/:/bin/sh\n")
    write(root.path / "etc/group", "root:x:0:\n")
    done = builds.run("whoami; id -gn; cat /etc/passwd", conditions=OTHER, root=root)
    lines = [
        "somebody",
        "somebody",
        "root:x:0:0::/:/bin/sh",
        f"somebody:x:4242:4343:somebody:{OTHER.build}:/bin/sh",
    ]
    assert done.log.splitlines() == lines


def copied_root(builds: Builds) -> PlainTree:
    """The root of these tests, to be changed."""
    return PlainTree(Path(shutil.copytree(builds.root.path, builds.place / "root", symlinks=True)))


def test_a_passwd_that_leads_out_of_the_toolchain_is_left_alone(builds: Builds) -> None:
    root = copied_root(builds)
    (root.path / "etc/passwd").symlink_to("/proc/self/mounts")
    done = builds.run("readlink /etc/passwd", conditions=OTHER, root=root)
    assert done.log == "/proc/self/mounts\n"


NAMES = "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("conditions", [Conditions(), OTHER], ids=["as usual", "as another"])
def test_in_memory_folders_list_in_another_order(builds: Builds, conditions: Conditions) -> None:
    tree = builds.tree("tree", {f"sub/{name}": name for name in NAMES} | {"tool": "x"})
    (tree.path / "tool").chmod(0o555)
    listed = "find . -name '[a-z]' | tr -d './\\n'; echo"
    script = f"touch {' '.join(NAMES)}; {listed}; cd /in/tree/sub; {listed};"
    on_disk = builds.run(script, inputs={"tree": tree}).log.splitlines()
    script += "stat -c '%a %Y' /in/tree/tool /in/tree/sub/a; cat /in/tree/sub/q"
    memory = replace(conditions, in_memory=("tree",), probe=True)
    done = builds.run(script, inputs={"tree": tree}, conditions=memory)
    built, read, *rest = done.log.splitlines()
    assert (built, read) == (NAMES[::-1], on_disk[1][::-1])
    assert built != on_disk[0]
    mtime = int((tree.path / "tool").stat().st_mtime)
    assert rest == [f"555 {mtime}", f"444 {int((tree.path / 'sub/a').stat().st_mtime)}", "q"]
    assert done.result.seen["order"] == "hgfedcba"


def test_a_copy_in_memory_cannot_be_changed(builds: Builds) -> None:
    tree = builds.tree("tree", {"sub/file": "x"})
    attempts = (
        "chmod 777 /in/tree/sub",
        "echo y >> /in/tree/sub/file",
        "rm -rf /in/tree/sub",
        "touch /in/tree/y",
    )
    script = "".join(f"({each}) 2>/dev/null && echo '{each}'\n" for each in attempts)
    done = builds.run(script + "true", inputs={"tree": tree}, conditions=Conditions(in_memory=("tree",)))
    assert (done.result.outcome, done.log) == ("built", "")


def test_a_link_is_copied_as_one(builds: Builds) -> None:
    tree = builds.tree("tree", {"file": "x"})
    tree.path.chmod(0o755)
    (tree.path / "link").symlink_to("/etc/hostname")
    done = builds.run(
        "readlink /in/tree/link", inputs={"tree": tree}, conditions=Conditions(in_memory=("tree",))
    )
    assert done.log == "/etc/hostname\n"


@pytest.mark.parametrize(
    "conditions", [OTHER, replace(OTHER, in_memory=())], ids=["on the disk", "in memory"]
)
def test_a_report_is_read_wherever_it_lies(builds: Builds, conditions: Conditions) -> None:
    done = builds.run("""echo '{"code": "patch-failed"}' > $CCSTORE_REPORT; exit 1""", conditions=conditions)
    assert done.result.report == {"code": "patch-failed"}


def test_a_probe_asks_a_program_for_the_time(builds: Builds) -> None:
    done = builds.run("true", conditions=Conditions(probe=True))
    assert abs(float(done.result.seen["clock"]) - time.time()) < 10


def test_a_probe_without_a_program_says_nothing_of_the_time(builds: Builds) -> None:
    root = copied_root(builds)
    (root.path / "bin/date").unlink()
    done = builds.run("true", conditions=Conditions(probe=True), root=root)
    assert done.result.outcome == "built"
    assert "clock" not in done.result.seen


def test_an_overlay_output_is_as_ever(builds: Builds) -> None:
    tree = builds.tree("tree", {"a": "old", "b": "old"})
    request = builds.request(
        "rm -f $out/a; echo new > $out/a",
        inputs={"tree": tree},
        overlays={"out": "tree"},
        conditions=replace(OTHER, in_memory=()),
    )
    result = Sandbox().build(request, lambda _: None, Cancel())
    assert result.outcome == "built"
    assert (result.overlays["out"] / "a").read_text() == "new\n"
