"""What a build gets, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path

import pytest

from ccstore.executor.sandbox import Sandbox
from ccstore.ports import BuildRequest, Cancel

from .conftest import Builds, unheard

ENVIRONMENT = """\
CCSTORE_CORES=3
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


def test_the_environment_is_exactly_this(builds: Builds) -> None:
    done = builds.run(
        "",
        argv=("/bin/env",),
        outputs=("out", "dev"),
        cores=3,
        env={"EXTRA": "of the derivation"},
    )
    assert "".join(sorted(done.log.splitlines(keepends=True))) == ENVIRONMENT


def test_who_and_where(builds: Builds) -> None:
    script = "id -u; id -g; hostname; cat /proc/sys/kernel/domainname; pwd; umask; date +%Z; echo $$; cat; ulimit -n"
    done = builds.run(script)
    expected = ["1000", "1000", "ccstore", "(none)", "/build", "0022", "UTC", "2", "4096"]
    assert done.log.splitlines() == expected


def test_the_callers_umask_does_not_matter(builds: Builds) -> None:
    before = os.umask(0o077)
    try:
        done = builds.run("stat -c %a /build /tmp /out /in /in/.builder", files={"x": ""})
    finally:
        os.umask(before)
    assert done.log.split() == ["755"] * 5


def test_the_callers_signals_do_not_matter(builds: Builds) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        done = builds.run("", argv=("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert done.log.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]


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


def test_a_lot_of_output_streams(builds: Builds) -> None:
    request = builds.request("yes 0123456789abcde | head -c 20000000")
    sizes: list[int] = []
    result = Sandbox().build(request, lambda data: sizes.append(len(data)), Cancel())
    assert result.outcome == "built"
    assert sum(sizes) == 20_000_000
    assert len(sizes) > 100


def test_output_comes_before_the_end(builds: Builds) -> None:
    """The build waits for a file that only appears once its first line was seen."""
    request = builds.request(
        "echo first; until test -e /in/flag/there; do sleep 0.01; done",
        inputs={"flag": builds.tree("flag", {"x": ""})},
        timeout=20,
    )
    flag = request.inputs["flag"].path

    def log(data: bytes) -> None:
        flag.chmod(0o755)
        (flag / "there").touch()

    assert Sandbox().build(request, log, Cancel()).outcome == "built"


def test_two_at_a_time(builds: Builds) -> None:
    requests = [builds.request(f"sleep 0.2; echo {i} > $out") for i in range(2)]
    threads = [threading.Thread(target=Sandbox().build, args=(each, unheard, Cancel())) for each in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(each.staging / "out").read_text() for each in requests] == ["0\n", "1\n"]


def test_a_report_is_read(builds: Builds) -> None:
    done = builds.run("""echo '{"code": "patch-failed", "line": 3}' > $CCSTORE_REPORT; exit 1""")
    assert done.result.report == {"code": "patch-failed", "line": 3}


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


def test_a_kept_failure_is_kept(builds: Builds) -> None:
    done = builds.run("echo x > half; echo y > $out; exit 1", keep_failed=True)
    assert (done.request.scratch / "build/half").read_text() == "x\n"
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
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, bad: dict[str, object]) -> None:
    request = BuildRequest("t", root=None, argv=(), staging=tmp_path, scratch=tmp_path, **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        Sandbox().build(request, unheard, Cancel())
