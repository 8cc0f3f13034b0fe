"""BuildStream with a project and caches of its own, where it is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.benchmark.measure import Command
from tests.conftest import write


def chain(folder: Path, length: int) -> Command | None:
    """`bst build` of a chain of elements, which the first run builds; None if there is no BuildStream."""
    if shutil.which("bst") is None:
        return None
    project = folder / "bst"
    write(project / "project.conf", "name: chain\nmin-version: 2.0\nelement-path: elements\n")
    write(project / "files/hello", "hello\n")
    for number in range(length):
        needs = f"depends: [d{number - 1}.bst]\n" if number else ""
        source = f"sources:\n- kind: local\n  path: files\nconfig:\n  target: /d{number}\n"
        write(project / f"elements/d{number}.bst", f"kind: import\n{needs}{source}")
    folders = {"cachedir": "cache", "sourcedir": "sources", "logdir": "logs", "workspacedir": "workspaces"}
    settings = "".join(f"{name}: {project / each}\n" for name, each in folders.items())
    own = write(project / "user.conf", settings)
    argv = ["bst", "--config", str(own), "--no-interactive", "build", f"d{length - 1}.bst"]
    return Command("bst", argv, cwd=project)
