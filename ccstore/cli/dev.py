"""`ccstore dev`: builds and boots on every save, going on where the last build ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ccstore.cli.boot import note
from ccstore.cli.context import open_workspace, store_option, target_argument
from ccstore.errors import CcError

if TYPE_CHECKING:
    from ccstore.build.workspace import Workspace

POLL = 0.2  # seconds; an editor that writes in several steps is done by the next look
PATIENCE = 20.0  # seconds for a build or guest to end


@click.command("dev")
@target_argument
@click.argument("argv", metavar="[-- COMMAND…]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--guest", metavar="NAME", help="The guest to boot (default: one that TARGET is the kernel of)."
)
@click.option("--no-boot", is_flag=True, help="Only build.")
@click.option("--append", default="", metavar="WORDS", help="Further kernel parameters.")
@click.option("--timeout", metavar="DURATION", help="End the guest after 45s, 10m, …")
@store_option
def command(
    target: str,
    argv: tuple[str, ...],
    guest: str | None,
    no_boot: bool,
    append: str,
    timeout: str | None,
    store: str | None,
) -> None:
    """Build TARGET and boot it, again on every change of a file that it is made from, until Ctrl-C.

    Builds go on in the folder that the last one left (`realize --incremental`), so that a changed patch, fragment or
    recipe costs what it reaches. A save while a build or guest runs ends it. TARGET is a guest, or a kernel: then a
    guest of the project boots that has it, or the kernel alone where there is none. Ctrl-] ends a guest's console.

    \b
    ccstore dev kernel                                   and edit kernel/patches-6.1, kernel/config
    ccstore dev kernel --guest clear-containers -- uname -r
    ccstore dev kernel --no-boot
    """
    if no_boot and (argv or guest or append or timeout):
        raise CcError("usage", "--no-boot boots nothing", hint="leave the other options and the command out")
    boot = ["--append", append] * bool(append) + ["--timeout", timeout or ""] * bool(timeout)
    loop = _Loop(target, guest, store, [] if no_boot else [*boot, "--", *argv], boots=not no_boot)
    while True:
        loop.round()


class _Loop:
    """One target; each round is one state of the files behind it."""

    def __init__(
        self, target: str, guest: str | None, store: str | None, options: list[str], *, boots: bool
    ) -> None:
        self._target, self._guest, self._store = target, guest, store
        self._options, self._boots = options, boots
        self._files: list[str] = []
        self._told = ""

    def round(self) -> None:
        """Builds, boots, and returns when a file has changed."""
        from ccstore.build.watching import Watched

        words = self._look()
        watched = Watched(self._files)
        child = subprocess.Popen([sys.executable, "-m", "ccstore", *words]) if words else None
        try:
            changed = self._wait(child, watched.changed)
        finally:
            _end(child)
        note(f"changed: {', '.join(map(shown, changed[:3]))}{' …' if len(changed) > 3 else ''}")

    def _look(self) -> list[str] | None:
        """The command of this round, and which files it rests on; None if the recipes are wrong now."""
        from ccstore.cli.app import show_error

        try:
            with open_workspace(self._store) as work:
                ref = work.graph.find(self._target)
                boots = self._boot_target(work) if self._boots else self._target
                self._files = work.files_behind([ref, work.graph.find(boots)])
        except CcError as error:
            if not self._files:
                raise
            show_error(error)
            return None
        store = ["--store", self._store] if self._store else []
        verb = "run" if self._boots else "realize"
        return [verb, *store, "--incremental", boots, *self._options]

    def _boot_target(self, work: Workspace) -> str:
        """What is booted: TARGET itself, or a guest with this kernel."""
        from ccstore.build.watching import guests_with

        if self._guest:
            return self._guest
        if work.graph.recipes.get(self._target.partition(".")[0]) != "kernel":
            return self._target
        guests = guests_with(work, work.graph.find(self._target))
        chosen = guests[0] if guests else self._target
        others = f" (--guest has it boot {' or '.join(guests[1:])})" if guests[1:] else ""
        self._tell(f"boots {chosen}{others}" if guests else f"no guest has {chosen}: it boots without a root")
        return chosen

    def _tell(self, message: str) -> None:
        if message != self._told:
            note(message)
            self._told = message

    def _wait(self, child: subprocess.Popen[bytes] | None, changed: Callable[[], list[str]]) -> list[str]:
        """Waits until a file has changed and none changes any more; says meanwhile how the child ended."""
        found: list[str] = []
        while True:
            time.sleep(POLL)
            more = changed()
            if found and not more:
                return list(dict.fromkeys(found))
            found += more
            if child is not None and child.poll() is not None:
                done = "done" if child.returncode == 0 else f"ended with status {child.returncode}"
                note(f"{done}; waits for a change of {self._target} (Ctrl-C ends)")
                child = None


def _end(child: subprocess.Popen[bytes] | None) -> None:
    """Ends a build or a guest that still runs, as Ctrl-C would."""
    if child is None or child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def shown(path: str) -> str:
    """`path` as seen from here, if it is below."""
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path
