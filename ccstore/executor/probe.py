"""Can this host make a sandbox? The answer is found by trying, never guessed from versions or settings.

`enter` runs with the operations in question and no command.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ccstore.executor import enter
from ccstore.executor.layout import made_by_enter
from ccstore.executor.process import Process
from ccstore.executor.refusal import Finding, Refusal
from ccstore.ports import Conditions


def findings(folder: Path) -> tuple[Finding, ...]:
    """What a sandbox needs and whether this host has it; overlays are tried in `folder` (the store)."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".ccstore-probe-") as place:
        root = Path(place)
        for name in ("proc", "lower", "upper", "target"):
            (root / name).mkdir()
        overlay = enter.Overlay("/target", [f"{root}/lower"], f"{root}/upper", f"{root}/work")
        trials: list[tuple[str, list[enter.Operation]]] = [
            ("user namespaces", []),
            ("a private /proc", [enter.FileSystem("proc", "/proc")]),
            ("overlays in a user namespace", [overlay]),
        ]
        return tuple(_finding(name, _try(root, steps)) for name, steps in trials)


def _finding(name: str, refusal: Refusal | None) -> Finding:
    if refusal is None:
        return Finding(name)
    error = refusal.error("")
    return Finding(name, error.message, error.hint or "")


def _try(root: Path, steps: list[enter.Operation]) -> Refusal | None:
    """Performs `steps` in a throw-away sandbox with the writable `root` as `/`."""
    spec: dict[str, Any] = {
        "root": str(root),
        "operations": [step.data() for step in [enter.Bind(str(root), "/", writable=True), *steps]],
        "argv": [],
        "env": {},
        "conditions": made_by_enter(Conditions()),
        "network": False,
        "input": "nothing",
        "jobserver": None,
        "grace": 0,
    }
    process = Process(spec, stdout=subprocess.DEVNULL)
    process.wait()
    return process.refusal()
