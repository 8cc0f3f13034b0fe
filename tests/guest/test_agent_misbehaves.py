"""Guests whose agent does not do what it should: each a clear error, in time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.guest.agent import Agent
from ccstore.guest.agent_bodies import Pod
from tests.guest import agents
from tests.guest.agents import PATIENCE, Guest, Machine


def connects(guest: Guest, container_root: Path) -> None:
    guest.connect().close()


def connects_in_time(guest: Guest, container_root: Path) -> None:
    guest.connect(timeout=4).close()


def runs_a_container(guest: Guest, container_root: Path) -> None:
    with agents.pod(guest, container_root) as pod:
        pod.run("exit 0")


def starts_a_pod_in_time(guest: Guest, container_root: Path) -> None:
    with guest.connect(reply_timeout=2) as agent:
        agent.start_pod(Pod("pod0"))


MISBEHAVIOUR: dict[str, tuple[Callable[[Guest, Path], None], str]] = {
    "silent": (connects_in_time, "agent-not-ready"),
    "exits": (connects, "agent-gone"),
    "garbage": (connects, "agent-protocol"),
    "oversize": (connects, "agent-protocol"),
    "old-version": (runs_a_container, "agent-protocol"),
    "deaf": (starts_a_pod_in_time, "agent-timeout"),
    "no-reply": (starts_a_pod_in_time, "agent-timeout"),
    "dies": (runs_a_container, "agent-gone"),
}


@pytest.mark.parametrize("mode", MISBEHAVIOUR)
def test_an_agent_that(mode: str, test_machine: Machine, container_root: Path, tmp_path: Path) -> None:
    act, code = MISBEHAVIOUR[mode]
    with agents.guest(test_machine, tmp_path, f"testagent={mode}") as guest:
        with pytest.raises(CcError) as caught:
            act(guest, container_root)
        assert caught.value.code == code, guest.console()[-2000:]


def test_a_machine_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CcError) as caught:
        Agent.connect(tmp_path / "a", tmp_path / "b", timeout=0.1)
    assert caught.value.code == "agent-not-ready"
    with pytest.raises(CcError) as caught:
        Agent.connect(tmp_path / "a", tmp_path / "b", timeout=PATIENCE, alive=lambda: False)
    assert caught.value.code == "agent-gone"


def test_a_machine_that_is_killed(test_machine: Machine, container_root: Path, tmp_path: Path) -> None:
    with agents.guest(test_machine, tmp_path) as guest, agents.pod(guest, container_root) as pod:
        running, _ = pod.start("sleep 1000")
        guest.process.kill()
        with pytest.raises(CcError) as caught:
            pod.agent.wait(running, PATIENCE)
        assert caught.value.code == "agent-gone"
