"""`ccstore init`: starts a project of one's own."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from ccstore.build.locate import PROJECT_FILE
from ccstore.errors import CcError

# of the repository; the wheel carries them beside the starter's own files
SHARED = ("recipes/toolchain.yml", "kernel/pins/toolchain.yml")


@click.command("init")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def command(directory: Path) -> None:
    """Start a project in DIR: a kernel recipe, one config fragment, and the pinned toolchain.

    \b
    ccstore init guest && cd guest
    ccstore realize kernel
    """
    if (directory / PROJECT_FILE).exists():
        raise CcError(
            "project-exists",
            f"{directory} is a ccstore project already",
            where=str(directory / PROJECT_FILE),
            hint="give another folder, or edit its recipes",
        )
    files = {_place(directory, name): source for name, source in sorted(starter_files().items())}
    try:
        for path, source in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read_bytes())
    except OSError as error:
        message = f"cannot write {error.filename}: {error.strerror}"
        raise CcError("usage", message, hint="give a folder that can be written to") from error
    for path in files:
        click.echo(str(path))
    click.echo(f"next: cd {directory} && ccstore realize kernel", err=True)


def starter_files() -> dict[str, Traversable]:
    """Every file of a new project by its relative path."""
    top = resources.files("ccstore") / "starter"
    found = dict(_walk(top, ""))
    checkout = Path(__file__).parents[2]  # where an editable install runs from
    for name in SHARED:
        if name not in found:
            found[name] = checkout / name
    return found


def _walk(folder: Traversable, lead: str) -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _walk(entry, f"{lead}{entry.name}/")
        else:
            found.append((lead + entry.name, entry))
    return found


def _place(directory: Path, name: str) -> Path:
    """Where a file of the starter goes. Raises `project-exists` if something is there: nothing is overwritten."""
    path = directory / ("." + name[4:] if name.startswith("dot-") else name)
    if path.exists():
        raise CcError(
            "project-exists", f"{path} is in the way", where=str(path), hint="give an empty or a new folder"
        )
    return path
