"""A real Nix with a store of its own, for goldens and for agreement in both directions."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CONF = """build-users-group =
sandbox = false
substituters =
experimental-features = nix-command ca-derivations
"""


@dataclass
class Nix:
    """Runs Nix's programs with a store below `state`; its logical store directory is /nix/store."""

    tool: Callable[[str], str]
    state: Path

    def __post_init__(self) -> None:
        self.state.mkdir(parents=True)
        (self.state / "nix.conf").write_text(CONF)

    @property
    def store(self) -> str:
        return str(self.state / "root")

    def path(self, logical: str) -> Path:
        """Where the object with a logical store path lies."""
        return Path(f"{self.store}{logical}")

    def run(
        self, program: str, *arguments: str, stdin: str | None = None, status: int = 0
    ) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("NIX_")}
        clean |= {"NIX_CONF_DIR": str(self.state), "NIX_USER_CONF_FILES": "", "HOME": str(self.state)}
        clean |= {"NIX_REMOTE": self.store, "no_proxy": "127.0.0.1"}
        argv = [self.tool(program), *arguments]
        found = subprocess.run(argv, env=clean, capture_output=True, text=True, input=stdin, check=False)
        assert found.returncode == status, f"{argv}: {found.returncode}\n{found.stdout}\n{found.stderr}"
        return found

    def lines(self, program: str, *arguments: str, stdin: str | None = None) -> list[str]:
        return self.run(program, *arguments, stdin=stdin).stdout.splitlines()
