"""What every executor promises: the same request, the same outputs, the same end."""

from __future__ import annotations

import os
import re
import socket
import threading
import time

import pytest

from ccstore.ports import BuildRequest, Cancel

from .conftest import Builds, alive, marker, unheard, wait_until

EXECUTORS = ("sandbox", "docker", "remote", "cluster")
# what a remote worker does not promise: see test_remote.py for what it does instead
HERE = pytest.mark.executors("sandbox", "docker")

ENVIRONMENT = """\
CCSTORE_CORES=3
CCSTORE_MAKEFLAGS=-j3
CCSTORE_REPORT=/build/.ccstore-report.json
EXTRA=of the derivation
HOME=/build
LANG=C.UTF-8
LC_ALL=C.UTF-8
LOGNAME=builder
PATH=/usr/bin:/bin:/usr/sbin:/sbin
SHELL=/bin/sh
TMPDIR=/tmp
TZ=UTC
USER=builder
dev=/out/dev
out=/out/out
"""
SOURCE = {
    "Makefile": "version = 1\n",
    "doc/one": "1\n",
    "doc/two": "2\n",
    "src/a/x.c": "x\n",
    "src/b/y.c": "y\n",
}


def test_builds_an_output(builds: Builds) -> None:
    tree = builds.tree("source", {"a/b": "text\n"})
    done = builds.run(
        "cat /in/source/a/b /in/.builder/script > $out; echo said; echo aside >&2",
        inputs={"source": tree},
        files={"script": "of the builder\n"},
    )
    assert (done.result.outcome, done.result.exit_status) == ("built", 0)
    assert done.out() == "text\nof the builder\n"
    assert done.log == "said\naside\n"
    assert done.result.report is None


def test_an_input_may_be_a_file(builds: Builds) -> None:
    tree = builds.tree("source", {"archive": "bytes"})
    done = builds.run("cat /in/file > $out", inputs={"file": type(tree)(tree.path / "archive")})
    assert done.out() == "bytes"


def test_files_of_the_builder_may_be_in_folders(builds: Builds) -> None:
    files = {"a/b/c": "1", "a/b/d": "2", "a/e": "3", "\u00e9": "4"}
    done = builds.run("cd /in/.builder; cat a/b/c a/b/d a/e ?? > $out", files=files)
    assert done.out() == "1234"


def test_the_environment_is_exactly_this(builds: Builds) -> None:
    done = builds.run(
        "",
        argv=("/bin/env",),
        outputs=("out", "dev"),
        cores=3,
        env={"EXTRA": "of the derivation"},
    )
    assert "".join(sorted(done.log.splitlines(keepends=True))) == ENVIRONMENT


@HERE
def test_who_and_where(builds: Builds) -> None:
    who = "id -u; id -g; hostname; cat /proc/sys/kernel/domainname"
    done = builds.run(f"{who}; pwd; umask; date +%Z; cat; ulimit -n; ulimit -c")
    assert done.log.splitlines() == [
        *("1000", "1000", "ccstore", "(none)", "/build", "0022", "UTC", "4096", "0")
    ]


@HERE
def test_owners_and_modes(builds: Builds) -> None:
    tree = builds.tree("source", {"a/b": "text", "program": ""})
    places = "/build /tmp /out /in /in/.builder /in/source /in/source/a /in/source/a/b /in/.builder/x"
    done = builds.run(f"stat -c '%a %u %g' {places}", inputs={"source": tree}, files={"x": ""})
    assert done.log.splitlines() == [
        *["755 1000 1000"] * 5,
        *["555 1000 1000"] * 2,
        *["444 1000 1000"] * 2,
    ]


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 3", 3), ("exit 255", 255), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("false", 1)],
)
def test_a_failure_has_the_builders_status(builds: Builds, script: str, status: int) -> None:
    done = builds.run(f"echo x > $out; {script}")
    assert (done.result.outcome, done.result.exit_status) == ("failed", status)


@pytest.mark.parametrize(("argv", "status"), [(("nowhere",), 127), (("/bin/nowhere",), 127), (("/in",), 126)])
def test_a_command_that_cannot_start(builds: Builds, argv: tuple[str, ...], status: int) -> None:
    done = builds.run("", argv=argv)
    assert (done.result.outcome, done.result.exit_status) == ("failed", status)
    assert argv[0] in done.log


def test_the_path_is_searched(builds: Builds) -> None:
    assert builds.run("", argv=("true",)).result.outcome == "built"


def test_cpu_time_counts_grandchildren(builds: Builds) -> None:
    spin = "(i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done) & wait"
    busy = builds.run(spin).result.cpu_seconds
    assert busy > builds.run("true").result.cpu_seconds + 0.05


@HERE
def test_a_lot_of_output(builds: Builds) -> None:
    request = builds.request("yes 0123456789abcde | head -c 20000000")
    sizes: list[int] = []
    result = builds.executor.build(request, lambda data: sizes.append(len(data)), Cancel())
    assert result.outcome == "built"
    assert sum(sizes) == 20_000_000
    assert len(sizes) > 100


@HERE
def test_output_comes_before_the_end(builds: Builds) -> None:
    """The build ends only because its first line was seen."""
    cancel = Cancel()
    request = builds.request("echo first; sleep 600", timeout=60)
    result = builds.executor.build(request, lambda _: cancel.cancel(), cancel)
    assert result.outcome == "cancelled"


def test_two_at_a_time(builds: Builds) -> None:
    requests = [builds.request(f"sleep 0.2; echo {i} > $out") for i in range(2)]
    build = builds.executor.build
    threads = [threading.Thread(target=build, args=(each, unheard, Cancel())) for each in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(each.staging / "out").read_text() for each in requests] == ["0\n", "1\n"]


def test_a_report_is_read(builds: Builds) -> None:
    done = builds.run("""echo '{"code": "patch-failed", "line": 3}' > $CCSTORE_REPORT; exit 1""")
    assert done.result.report == {"code": "patch-failed", "line": 3}


@HERE
@pytest.mark.parametrize(
    "script",
    [
        "echo '[1]' > $CCSTORE_REPORT",
        "echo '{' > $CCSTORE_REPORT",
        "mkdir $CCSTORE_REPORT",
        "mkfifo $CCSTORE_REPORT",
        "ln -s /etc/passwd $CCSTORE_REPORT",
        "head -c 3000000 /dev/zero > $CCSTORE_REPORT",
        "yes [ | head -c 900000 > $CCSTORE_REPORT",
    ],
)
def test_a_bad_report_is_told_and_ignored(builds: Builds, script: str) -> None:
    done = builds.run(script)
    assert done.result.report is None
    assert re.search("report is ignored", done.log)


@HERE
def test_a_kept_failure_is_kept(builds: Builds) -> None:
    done = builds.run("echo x > half; echo z > /tmp/t; echo y > $out; exit 1", keep_failed=True)
    assert (done.request.scratch / "build/half").read_text() == "x\n"
    assert (done.request.scratch / "tmp/t").read_text() == "z\n"
    assert done.out() == "y\n"


def test_a_success_is_not_kept(builds: Builds) -> None:
    done = builds.run("echo x > half; echo y > $out", keep_failed=True)
    assert list(done.request.scratch.iterdir()) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"inputs": {"../x": None}},
        {"inputs": {".builder": None}},
        {"outputs": ("",)},
        {"outputs": ("a/b",)},
        {"files": {"../../x": ""}},
        {"files": {"/x": ""}},
        {"overlays": {"out": "missing"}},
    ],
)
def test_names_that_lead_elsewhere_are_refused(builds: Builds, bad: dict[str, object]) -> None:
    place = builds.place
    request = BuildRequest("t", root=None, argv=("true",), staging=place, scratch=place, **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        builds.executor.build(request, unheard, Cancel())


@HERE
def test_every_kind_of_output(builds: Builds) -> None:
    script = r"""
        mkdir -p $out/empty $out/deep/er $out/closed && cd $out
        echo program > deep/program && chmod 700 deep/program
        echo secret > closed/file && chmod 0 closed/file closed
        ln -s ../nowhere/at/all deep/link && ln -s / root && ln deep/program deep/er/again && : > 'odd *
name'
        printf x > "$(printf 'not UTF-8 \377')"
        long=$(printf %0200d 0) && mkdir $long && : > $long/$(printf %0200d 1)
        echo second > $dev
    """
    done = builds.run(script, outputs=("out", "dev"))
    assert done.result.outcome == "built", done.log
    (done.request.staging / "out/closed").chmod(0o755)
    (done.request.staging / "out/closed/file").chmod(0o644)
    zeros = "0" * 200
    assert done.tree() == {
        "": "/",
        zeros: "/",
        f"{zeros}/{zeros[1:]}1": "",
        "closed": "/",
        "closed/file": "secret\n",
        "deep": "/",
        "deep/er": "/",
        "deep/er/again": "*program\n",
        "deep/link": "-> ../nowhere/at/all",
        "deep/program": "*program\n",
        "empty": "/",
        os.fsdecode(b"not UTF-8 \xff"): "x",
        "odd *\nname": "",
        "root": "-> /",
    }
    assert done.tree("dev") == {"": "second\n"}


def test_ten_thousand_files(builds: Builds) -> None:
    script = """
        i=0; while [ $i -lt 100 ]; do mkdir -p $out/$i; j=0
        while [ $j -lt 100 ]; do echo $i $j > $out/$i/$j; j=$((j+1)); done; i=$((i+1)); done
    """
    done = builds.run(script)
    found = done.tree()
    assert (len(found), found["7/9"]) == (10_101, "7 9\n")


@HERE
def test_what_else_a_build_writes_is_seen(builds: Builds) -> None:
    done = builds.run("echo 1 > $out; echo 2 > /out/more; mkfifo /out/fifo")
    assert sorted(each.name for each in done.request.staging.iterdir()) == ["fifo", "more", "out"]
    assert (done.request.staging / "fifo").is_fifo()


def test_an_output_that_is_not_written(builds: Builds) -> None:
    done = builds.run("true")
    assert done.result.outcome == "built"
    assert list(done.request.staging.iterdir()) == []


def test_a_server_of_the_host_cannot_be_reached(builds: Builds) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = builds.run(f"nc -w 5 127.0.0.1 {server.getsockname()[1]} </dev/null")
    assert done.result.outcome == "failed"
    assert "refused" in done.log


def test_the_loopback_works(builds: Builds) -> None:
    script = "echo inside | nc -l -p 4000 127.0.0.1 & sleep 0.2; nc 127.0.0.1 4000 </dev/null"
    assert builds.run(script, timeout=20).log == "inside\n"


@HERE
def test_the_toolchain_and_the_inputs_stay_as_they_are(builds: Builds) -> None:
    tree = builds.tree("source", {"a/b": "text"})
    attempts = [
        "echo x > /x",
        "echo x > /in/x",
        "mkdir /in/source/new",
        "chmod 777 /bin",
        "chmod 777 /in/source/a",
        "echo x >> /in/source/a/b",
        "chmod 666 /in/source/a/b",
        "touch /in/source/a/b",
        "rm -f /in/source/a/b",
        "ln /in/source/a/b /build/b",
        "mount -t tmpfs none /build",
        "mknod /build/null c 1 3",
        "chown 0 /build",
        "hostname other",
    ]
    script = "".join(f"({each}) 2>/dev/null && echo '{each}'\n" for each in attempts)
    done = builds.run(script + "true", inputs={"source": tree})
    assert done.result.outcome == "built"
    assert done.log == ""
    assert (tree.path / "a/b").read_text() == "text"


@HERE
def test_no_privileges_are_left(builds: Builds) -> None:
    done = builds.run("grep -E '^(Cap|NoNewPrivs)' /proc/self/status | sort; unshare -U true")
    zero = "0" * 16
    expected = [f"Cap{name}:\t{zero}" for name in ("Amb", "Bnd", "Eff", "Inh", "Prm")] + ["NoNewPrivs:\t1"]
    assert done.log.splitlines()[:6] == expected
    assert done.result.outcome == "failed"  # namespaces do not nest


@HERE
def test_the_devices_work(builds: Builds) -> None:
    script = """
        head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo x > /dev/null
        echo x > /dev/full || echo full; echo x > /dev/shm/x; cat /dev/shm/x; echo out > /dev/stdout
    """
    lines = builds.run(script).log.splitlines()
    assert lines[:2] == ["3", "3"]
    assert lines[3:6] == ["full", "x", "out"]


def change(builds: Builds, script: str, **options: object) -> dict[str, str]:
    """What an output that began as SOURCE is in the end."""
    tree = builds.tree("source", SOURCE)
    before = {each: each.lstat() for each in sorted(tree.path.rglob("*"))}
    done = builds.run(f"cd $out && {{ {script}\n}}", inputs={"source": tree}, overlays={"out": "source"})
    assert done.result.outcome == "built", done.log
    found = done.tree()
    after = {each: each.lstat() for each in sorted(tree.path.rglob("*"))}
    assert [(each.st_mode, each.st_mtime, each.st_size) for each in before.values()] == [
        (each.st_mode, each.st_mtime, each.st_size) for each in after.values()
    ]
    return {path: text for path, text in found.items() if text != "/"}


def test_an_overlay_starts_as_the_input(builds: Builds) -> None:
    assert change(builds, "find . -type f | sort | xargs cat") == SOURCE


def test_an_overlay_modified_added_to_and_removed_from(builds: Builds) -> None:
    script = """
        rm Makefile && echo 'version = 2' > Makefile && echo new > src/a/new.c && rm doc/one && rm -r src/b
        mkdir fresh && echo z > fresh/z && ln -s z fresh/link && ln fresh/z fresh/again && chmod 755 src/a/x.c
        ln doc/two two
    """
    assert change(builds, script) == {
        "Makefile": "version = 2\n",
        "doc/two": "2\n",
        "two": "2\n",
        "fresh/again": "z\n",
        "fresh/link": "-> z",
        "fresh/z": "z\n",
        "src/a/new.c": "new\n",
        "src/a/x.c": "*x\n",
    }


def test_an_overlay_with_folders_replaced(builds: Builds) -> None:
    script = """
        mv doc papers && cat papers/* && rm -r src/a && echo file > src/a
        rm -r src/b && mkdir src/b && echo 3 > src/b/z.c && rm Makefile && mkdir Makefile && echo 4 > Makefile/in
    """
    assert change(builds, script) == {
        "Makefile/in": "4\n",
        "papers/one": "1\n",
        "papers/two": "2\n",
        "src/a": "file\n",
        "src/b/z.c": "3\n",
    }


def test_an_overlay_beside_an_ordinary_output(builds: Builds) -> None:
    done = builds.run(
        "rm $tree/Makefile; echo x > $out; ls -A /out",
        inputs={"source": builds.tree("source", SOURCE)},
        outputs=("out", "tree"),
        overlays={"tree": "source"},
    )
    assert done.log.split() == ["out", "tree"]
    assert done.out() == "x\n"
    assert "Makefile" not in done.tree("tree")
    assert done.tree("tree")["doc/one"] == "1\n"


def test_a_failed_overlay_leaves_nothing(builds: Builds) -> None:
    tree = builds.tree("source", SOURCE)
    done = builds.run("rm -r $out/doc; exit 1", inputs={"source": tree}, overlays={"out": "source"})
    assert done.result.outcome == "failed"  # and `run` looked for what is left


def test_a_build_that_hangs_is_ended(builds: Builds) -> None:
    mark = marker()
    start = time.monotonic()
    done = builds.run(f"echo x > $out; echo begun; sleep {mark}", timeout=0.5)
    assert done.result.outcome == "timeout"
    assert done.log == "begun\n"
    assert 0.5 <= time.monotonic() - start < 20
    wait_until(lambda: not alive(mark), 5)


@HERE
def test_a_build_that_prints_for_ever_is_ended(builds: Builds) -> None:
    assert builds.run("yes", timeout=0.3).result.outcome == "timeout"


def test_a_timeout_that_is_not_reached(builds: Builds) -> None:
    assert builds.run("sleep 0.1", timeout=60).result.outcome == "built"


def test_cancelled_from_another_thread(builds: Builds) -> None:
    mark, cancel = marker(), Cancel()

    def cancel_when_it_runs() -> None:
        # whoever starts the build has the mark on its command line, too; and bwrap outlives a parent that is killed
        # before it has asked to die with it
        wait_until(lambda: alive(f"sleep\0{mark}"))
        cancel.cancel()

    watch = threading.Thread(target=cancel_when_it_runs)
    watch.start()
    # the trap and the background process would outlive anything but the end of their namespace
    done = builds.run(
        f"trap '' TERM INT HUP; echo x > $out; (setsid sleep {mark} &); sleep {mark}", cancel=cancel
    )
    watch.join()
    assert done.result.outcome == "cancelled"
    wait_until(lambda: not alive(mark))


def test_cancelled_before_it_began(builds: Builds) -> None:
    cancel = Cancel()
    cancel.cancel()
    done = builds.run("echo ran", cancel=cancel)
    assert (done.result.outcome, done.log) == ("cancelled", "")


def test_cancelled_at_any_moment(builds: Builds) -> None:
    """Also while the sandbox is being made."""
    mark = marker()
    for delay in (0.0, 0.002, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.3):
        cancel = Cancel()
        timer = threading.Timer(delay, cancel.cancel)
        timer.start()
        assert builds.run(f"sleep {mark}", cancel=cancel).result.outcome == "cancelled"
        timer.join()
        if builds.executor.name != "remote":  # a service may finish what it had given no name yet
            wait_until(lambda: not alive(mark))


def test_cancelling_later_does_no_harm(builds: Builds) -> None:
    cancel = Cancel()
    assert builds.run("true", cancel=cancel).result.outcome == "built"
    cancel.cancel()


def test_daemons_die_and_do_not_hold_the_build_up(builds: Builds) -> None:
    mark = marker()
    start = time.monotonic()
    done = builds.run(f"(setsid sleep {mark} &); (sleep {mark} >/dev/null 2>&1 &); echo x > $out")
    assert done.result.outcome == "built"
    assert time.monotonic() - start < 20
    assert not alive(mark)


def test_a_build_that_closes_its_output_is_waited_for(builds: Builds) -> None:
    assert builds.run("exec >&- 2>&-; sleep 0.3; exit 4").result.exit_status == 4


@HERE
def test_a_log_that_fails_ends_the_build(builds: Builds) -> None:
    mark = marker()
    request = builds.request(f"echo x; sleep {mark}")

    def full(data: bytes) -> None:
        raise OSError("the log cannot be written")

    with pytest.raises(OSError, match="the log cannot be written"):
        builds.executor.build(request, full, Cancel())
    assert not alive(mark)
    assert list(request.scratch.iterdir()) == list(request.staging.iterdir()) == []


def test_read_only_and_deep_folders_are_removed(builds: Builds) -> None:
    if builds.executor.name == "remote" and os.geteuid():
        pytest.skip("buildbox-casd aborts at a folder that it may not read, unless it is root")
    script = """
        mkdir -p $out/a/b /tmp/c; touch $out/a/b/x /tmp/c/x; chmod 0 $out/a/b /tmp/c; chmod 555 $out/a
        i=0; while [ $i -lt 600 ]; do mkdir deeeeeeeeep; cd deeeeeeeeep; i=$((i+1)); done
        mkdir -p /build/.0 && ln -s / /build/link && mkfifo /build/fifo && exit 1
    """
    assert builds.run(script).result.exit_status == 1
