"""`ccstore init`: starts a project of one's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from ccstore.build.locate import PROJECT_FILE, carried
from ccstore.errors import CcError

STARTER = Path(__file__).parents[1] / "starter"
SHARED = ("recipes/toolchain.yml", "kernel/pins/toolchain.yml")
# what a project with guests has: what the wheel carries but for the apt of `ccstore lock`
GUEST_RECIPES = [
    "busybox",
    "busybox-source",
    "clear-containers",
    "clear-containers-minimal",
    "container-root",
    "crun",
    "crun-source",
    "guest-init",
    "guest-tools",
    "hello",
    "hyperstart",
    "hyperstart-root",
    "hyperstart-source",
    "kernel",
    "qemu",
    "rngd",
    "rngd-source",
    "sysctl",
    "toolchain",
]
GUEST_PINS = ("guest-tools", "qemu", "toolchain")
GUEST_DATA = [
    "config",
    "patches-6.1",
    "guest/init",
    "guest/busybox",
    "guest/container-root",
    "guest/hyperstart",
    "guest/sysctl",
]


@click.command("init")
@click.option("--guest", is_flag=True, help="The kernel and the guests of ccstore's own repository.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def command(directory: Path, *, guest: bool) -> None:
    """Start a project in DIR: a kernel recipe, one config fragment, and the pinned toolchain.

    With --guest it is ccstore's own kernel, the components of guests, and guests to begin with.

    \b
    ccstore init guest && cd guest
    ccstore realize kernel
    \b
    ccstore init --guest vm && cd vm
    ccstore run hello
    """
    if (directory / PROJECT_FILE).exists():
        raise CcError(
            "project-exists",
            f"{directory} is a ccstore project already",
            where=str(directory / PROJECT_FILE),
            hint="give another folder, or edit its recipes",
        )
    chosen = guest_files() if guest else starter_files()
    files = {_place(directory, name): source for name, source in sorted(chosen.items())}
    try:
        for path, source in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, path)  # with its mode: whether a file is executable is part of its content
    except OSError as error:
        message = f"cannot write {error.filename}: {error.strerror}"
        raise CcError("usage", message, hint="give a folder that can be written to") from error
    for path in files:
        click.echo(str(path))
    click.echo(f"next: cd {directory} && ccstore {'run hello' if guest else 'realize kernel'}", err=True)


def starter_files() -> dict[str, Path]:
    """Every file of a new project by its relative path."""
    return {**_files(STARTER), **{name: Path(carried(), name) for name in SHARED}}


def guest_files() -> dict[str, Path]:
    """Every file of a new project with guests by its relative path."""
    own = {name: path for name, path in _files(STARTER).items() if not name.startswith("kernel/")}
    names = [f"recipes/{name}.yml" for name in GUEST_RECIPES] + [
        f"kernel/pins/{name}.yml" for name in GUEST_PINS
    ]
    folders = [f"kernel/{name}" for name in GUEST_DATA]
    top = Path(carried())
    data = {f"{folder}/{name}": path for folder in folders for name, path in _files(top / folder).items()}
    return {**own, **{name: top / name for name in names}, **data}


def _files(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


def _place(directory: Path, name: str) -> Path:
    """Where a file of the starter goes. Raises `project-exists` if something is there: nothing is overwritten."""
    path = directory / ("." + name[4:] if name.startswith("dot-") else name)
    if path.exists():
        raise CcError(
            "project-exists", f"{path} is in the way", where=str(path), hint="give an empty or a new folder"
        )
    return path
