"""What the README promises of the code itself: the checks that need no review."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_imports_point_down() -> None:
    found = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout


def test_types_are_strict() -> None:
    found = _run("mypy")
    assert found.returncode == 0, found.stdout


def test_style() -> None:
    found = _run("ruff", "check", ".")
    assert found.returncode == 0, found.stdout
    found = _run("ruff", "format", "--check", ".")
    assert found.returncode == 0, found.stdout
