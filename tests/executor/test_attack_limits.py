"""A build that uses up processes, memory or disk.

ccstore has no limits of its own but the time-out of a recipe: how much a build may use depends on the machine, and
must not decide what an output is. What the caller may use is all that a build may use, whatever it does, and all of
it is free again when the build ends.
"""

from __future__ import annotations

import resource
from collections.abc import Callable

from ccstore.executor.sandbox import Sandbox
from ccstore.ports import Cancel

from .attacking import Attacks
from .conftest import alive, in_child, marker


def limited(name: str, value: int, action: Callable[[], object]) -> None:
    """Runs `action` in a child with a limit, as `ulimit`, a shell or a service manager sets it."""
    in_child(action, lambda: resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value)))


def test_many_processes_are_ended_by_the_time_out(attacks: Attacks) -> None:
    mark = marker()
    request = attacks.request("limits.many_processes", mark, timeout=5)
    log = bytearray()
    assert Sandbox().build(request, log.extend, Cancel()).outcome == "timeout"
    assert b"many" in log
    assert not alive(mark)


def test_the_callers_limit_of_memory_is_the_builds(attacks: Attacks) -> None:
    assert attacks.run("limits.much_memory", 700).result.exit_status == 0

    def action() -> None:
        assert attacks.run("limits.much_memory", 700).result.exit_status == 3

    limited("AS", 600 << 20, action)


def test_the_callers_limit_of_file_sizes_is_the_builds(attacks: Attacks) -> None:
    def action() -> None:
        done = attacks.run("limits.large_file", 20)
        assert done.result.outcome == "failed"
        assert "File too large" in done.log

    limited("FSIZE", 10 << 20, action)


def test_file_systems_in_memory_are_bounded(attacks: Attacks) -> None:
    attacks.all_fail("limits.large_devices", wanted=3)


def test_open_files_are_bounded(attacks: Attacks) -> None:
    attacks.all_fail("limits.many_files", wanted=1)
