"""Runs the attacks of tests/executor/attacks in sandboxes, and says how each of their attempts ended."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ccstore.executor.process import interpreter
from ccstore.executor.sandbox import Sandbox
from ccstore.ports import BuildRequest, Cancel

from .attacks.attempt import SUCCEEDED
from .conftest import Builds, Done, PlainTree

PLACE = Path(__file__).parent / "attacks"
FILES = {f"attacks/{each.name}": each.read_text() for each in sorted(PLACE.glob("*.py"))}
PYTHON = ("/usr/bin/python3", "-B", "-m")


@dataclass(frozen=True)
class Attacks:
    """Attacks as builds whose root is the toolchain, which has a Python."""

    builds: Builds
    root: PlainTree

    def request(self, attack: str, *arguments: object, **options: Any) -> BuildRequest:
        """`attack` is `module.function`."""
        module, _, function = attack.partition(".")
        given = {
            "argv": (*PYTHON, f"attacks.{module}", function, *map(str, arguments)),
            "files": FILES | {"x": "text"},
            "env": {"PYTHONPATH": "/in/.builder"},
            "timeout": 60,
            **options,
        }
        return replace(self.builds.request("", **given), root=self.root)

    def run(self, attack: str, *arguments: object, until: str = "", **options: Any) -> Done:
        """The build is cancelled once its log has the text `until`."""
        request = self.request(attack, *arguments, **options)
        log, cancel = bytearray(), Cancel()

        def write(data: bytes) -> None:
            log.extend(data)
            if until and until.encode() in log:
                cancel.cancel()

        return Done(Sandbox().build(request, write, cancel), log.decode(errors="replace"), request)

    def all_fail(self, attack: str, *arguments: object, wanted: int, **options: Any) -> Done:
        """Makes `wanted` attempts, none of which succeeds."""
        done = self.run(attack, *arguments, **options)
        assert done.result.outcome == "built", done.log
        found = ended(done.log.splitlines())
        assert len(found) == wanted, done.log
        assert not succeeded(found)
        return done


def ended(lines: Iterable[str]) -> dict[str, str]:
    """How each attempt ended, by its name."""
    return dict(json.loads(line) for line in lines if line.startswith('["'))


def succeeded(found: dict[str, str]) -> dict[str, str]:
    return {name: how for name, how in found.items() if how.startswith(SUCCEEDED)}


def outside(attack: str, *arguments: object) -> dict[str, str]:
    """The same attack with no sandbox around it: what shows that its attempts can succeed at all."""
    module, _, function = attack.partition(".")
    command = [interpreter(), "-B", "-m", f"attacks.{module}", function, *map(str, arguments)]
    done = subprocess.run(command, cwd=PLACE.parent, capture_output=True, text=True, check=False, timeout=60)
    return ended(done.stdout.splitlines())
