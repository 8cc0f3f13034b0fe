"""The jobserver with real makes: never more jobs than tokens, none lost, none to be won by cheating."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.executor import jobserver
from ccstore.executor.jobserver import Jobserver, Share
from ccstore.ports import Cancel
from tests.conftest import write

from .conftest import Builds, unheard, wait_until

# each job writes "+" and "-" to one file, so that a prefix of it tells how many ran at that instant
MAKEFILE = """\
all: $(addprefix job-,$(JOBS))
\t@$(if $(DEEPER),$(MAKE) --no-print-directory -f $(firstword $(MAKEFILE_LIST)) JOBS="$(DEEPER)" DEEPER=)
job-%:
\t@printf + >>$(LOG); sleep $(SECONDS); printf - >>$(LOG)
"""


@dataclass(frozen=True)
class Makes:
    """Runs make in a build's place: with a share of the jobserver, and one token for its first job."""

    make: str
    folder: Path

    def argv(self, share: Share, jobs: int, seconds: float, deeper: int = 0) -> list[str]:
        reader, writer = share.descriptors
        words = [
            f"MAKEFLAGS=-j9 --jobserver-auth={reader},{writer}",
            self.make,
            "-f",
            str(self.folder / "Makefile"),
        ]
        numbers = [
            " ".join(f"{kind}{i}" for i in range(count)) for kind, count in (("a", jobs), ("b", deeper))
        ]
        words += [f"JOBS={numbers[0]}", f"DEEPER={numbers[1]}", f"SECONDS={seconds}", f"LOG={self.log}"]
        return ["env", *words]

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def run(self, server: Jobserver, jobs: int, seconds: float, deeper: int = 0) -> None:
        with server.job(Cancel()), server.share() as share:
            argv = self.argv(share, jobs, seconds, deeper)
            done = subprocess.run(
                argv, pass_fds=share.descriptors, capture_output=True, text=True, check=False
            )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def running(self) -> list[int]:
        """How many jobs ran at once, at each begin and end of one."""
        text = self.log.read_text() if self.log.exists() else ""
        return list(itertools.accumulate(1 if each == "+" else -1 for each in text))


@pytest.fixture
def makes(tool: Callable[[str], str], tmp_path: Path) -> Makes:
    write(tmp_path / "Makefile", MAKEFILE)
    return Makes(tool("make"), tmp_path)


@contextmanager
def begun(server: Jobserver) -> Iterator[Share]:
    with server.job(Cancel()), server.share() as share:
        yield share


def take(share: Share, count: int) -> None:
    """Takes tokens as a make does."""
    for _ in range(count):
        assert os.read(share.descriptors[0], 1) == jobserver.TOKEN


def fill(pipe: int) -> None:
    with suppress(BlockingIOError):
        while True:
            os.write(pipe, jobserver.TOKEN * 4096)


def test_a_lone_build_gets_all(makes: Makes) -> None:
    with Jobserver(4) as server:
        makes.run(server, 16, 0.1)
    assert max(makes.running()) == 4
    assert makes.running()[-1] == 0


def test_without_a_second_token_there_is_one_job(makes: Makes) -> None:
    with Jobserver(1) as server:
        makes.run(server, 4, 0.01)
    assert max(makes.running()) == 1


def test_builds_at_once_never_run_more_jobs_than_there_are_tokens(makes: Makes) -> None:
    with Jobserver(4) as server, ThreadPoolExecutor() as threads:
        for each in [threads.submit(makes.run, server, 20, 0.05, 8) for _ in range(3)]:
            each.result()
    running = makes.running()
    assert max(running) == 4
    assert len(running) == 2 * 3 * 28
    assert sum(running) / len(running) > 2.5  # they are used, too


def test_builds_share_alike() -> None:
    with Jobserver(6) as server, begun(server) as first:
        take(first, 5)
        with ThreadPoolExecutor() as threads:
            held = begun(server)
            second = threads.submit(held.__enter__)
            time.sleep(0.1)
            assert not second.done()
            for _ in range(3):
                os.write(first.descriptors[1], jobserver.TOKEN)
            take(second.result(5), 2)
            wait_until(lambda: (first.lent, second.result().lent) == (2, 2))
            held.__exit__(None, None, None)


def test_a_token_that_one_build_leaves_unused_goes_to_the_other() -> None:
    with Jobserver(5) as server, begun(server) as idle, begun(server) as busy:
        take(busy, 3)
        wait_until(lambda: (idle.lent, busy.lent) == (0, 3))
        os.write(busy.descriptors[1], jobserver.TOKEN)
        wait_until(lambda: idle.lent == 1)  # as it had none
        take(busy, 1)  # as it let that one lie
        began = time.monotonic()
        for _ in range(300):
            os.write(busy.descriptors[1], jobserver.TOKEN)
            take(busy, 1)
        assert time.monotonic() - began < 300 * jobserver.LOOK / 3  # it is not asked each time


def test_a_killed_build_takes_no_token_with_it(makes: Makes) -> None:
    with Jobserver(3) as server:
        for _ in range(3):
            with begun(server) as share:
                argv = makes.argv(share, 9, 30)
                process = subprocess.Popen(argv, pass_fds=share.descriptors, start_new_session=True)
                wait_until(lambda: makes.running()[-1:] == [3])
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            makes.log.unlink()
        makes.run(server, 9, 0.05)
    assert max(makes.running()) == 3


def test_a_build_that_floods_wins_nothing(makes: Makes) -> None:
    with Jobserver(3) as server, begun(server) as hostile:
        take(hostile, 2)
        os.write(hostile.descriptors[1], jobserver.TOKEN * 1000)
        own = os.open(f"/proc/self/fd/{hostile.descriptors[0]}", os.O_WRONLY | os.O_NONBLOCK)
        fill(own)
        os.close(own)
        wait_until(lambda: not hostile.trusted)
        makes.run(server, 6, 0.05)
        assert max(makes.running()) == 1  # two of three tokens are what the other was lent, to its end
    assert hostile.lent <= 2


def test_after_one_that_cheats_all_tokens_are_there(makes: Makes) -> None:
    with Jobserver(3) as server:
        with begun(server) as hostile:
            os.write(hostile.descriptors[1], jobserver.TOKEN * 1000)
            wait_until(lambda: not hostile.trusted)
        makes.run(server, 9, 0.05)
    assert max(makes.running()) == 3


def test_hoarded_tokens_delay_a_build_and_do_not_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobserver, "PATIENCE", 0.3)
    with Jobserver(2) as server, begun(server) as hostile:
        take(hostile, 1)
        began = time.monotonic()
        with begun(server) as other:
            assert 0.3 <= time.monotonic() - began < 15
            os.write(hostile.descriptors[1], jobserver.TOKEN)  # which pays back what was taken on credit
            wait_until(lambda: hostile.lent == 0)
            assert other.lent == 0


def test_who_waits_for_a_token_can_be_cancelled() -> None:
    with Jobserver(1) as server, begun(server):
        cancel = Cancel()
        threading.Timer(0.1, cancel.cancel).start()
        with pytest.raises(CcError) as caught, server.job(cancel):
            pass
        assert caught.value.code == "interrupted"
    with Jobserver(1) as server, server.job(Cancel()):
        pass


SCRIPT = """\
echo "$CCSTORE_CORES $CCSTORE_MAKEFLAGS"
for each in 3 4 5 9 197 198 199 200 201; do test ! -e /proc/self/fd/$each || echo $each; done
head -c 2 <&198; printf ++ >&199
"""


def test_the_descriptors_reach_the_build_and_nothing_else_does(builds: Builds) -> None:
    many = [
        os.open("/dev/null", os.O_RDONLY) for _ in range(220)
    ]  # so that those of the share have large numbers
    with Jobserver(3) as server, begun(server) as share:
        done = builds.run(SCRIPT, cores=3, jobserver=share.descriptors)
        wait_until(lambda: share.unused() == 2)
    for each in many:
        os.close(each)
    assert done.result.exit_status == 0
    assert done.log == "3 -j3 --jobserver-auth=198,199\n198\n199\n++"


def test_a_build_that_is_killed_with_tokens_in_hand(builds: Builds) -> None:
    with Jobserver(3) as server:
        for script, timeout, ended in (("kill -9 $$", None, "failed"), ("sleep 60", 0.5, "timeout")):
            with begun(server) as share:
                request = builds.request(
                    f"head -c 2 <&198; {script}", cores=3, jobserver=share.descriptors, timeout=timeout
                )
                assert builds.executor.build(request, unheard, Cancel()).outcome == ended
                assert share.unused() == 0
        with begun(server) as share:
            wait_until(lambda: share.unused() == 2)


def test_what_can_be_pasted_does_not_name_a_jobserver_that_is_gone(builds: Builds) -> None:
    with Jobserver(3) as server, begun(server) as share:
        done = builds.run("exit 1", cores=3, jobserver=share.descriptors)
    assert "jobserver-auth" not in done.result.command
    assert "-j3" in done.result.command
