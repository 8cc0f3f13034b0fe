"""`ccstore shell`: the sandbox of a build, by hand."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ccstore import events as event
from ccstore.build.kept import Kept, forget, read
from ccstore.build.shell import Entry, enter, enter_kept, last_failure, prepare
from ccstore.build.workspace import Options, Workspace
from ccstore.cli.app import show_error
from ccstore.cli.console import progress
from ccstore.cli.context import open_workspace, store_option, target_argument
from ccstore.cli.passing import PassingStatus
from ccstore.errors import CcError
from ccstore.events import Sink
from ccstore.model.derivation import Derivation


@click.command("shell", cls=PassingStatus)
@target_argument
@click.argument("argv", metavar="[-- COMMAND…]", nargs=-1, type=click.UNPROCESSED)
@click.option("--fresh", is_flag=True, help="As the build begins, even if a failed one was kept.")
@click.option(
    "--cores", type=click.IntRange(1), metavar="N", help="What the build is told of the processors."
)
@store_option
def command(target: str, argv: tuple[str, ...], fresh: bool, cores: int | None, store: str | None) -> None:
    """Enter the sandbox that TARGET's build has: a shell, or COMMAND.

    If the last build of TARGET failed and was kept (`realize --keep-failed`), it is that one, with its files as they
    were, and what is changed there stays; else it is a build that begins, whose inputs are made first. The exit
    status is that of the shell or COMMAND; 125 says that ccstore failed. What comes out is not registered.

    \b
    ccstore shell kernel                             then: sh /in/.builder/kernel.sh
    ccstore shell kernel -- ls /in/tree
    ccstore realize --keep-failed kernel || ccstore shell kernel
    """
    with open_workspace(store) as work:
        options, entry = Options(cores=cores), entry_here(argv)
        kept = None if fresh else last_failure(work, target)
        if kept:
            status = enter_kept(work.store, kept, entry, cores=work.cores(options))
        else:
            with progress() as sink:
                build = prepare(work, target, sink=sink, options=options)
            status = enter(work.store, build, entry, cores=work.cores(options))
    click.get_current_context().exit(status)


def entry_here(argv: tuple[str, ...] = ()) -> Entry:
    """A command as it is, or a shell: on a terminal of its own if this is one."""
    return Entry(argv, terminal=not argv and os.isatty(0), announce=_announce)


def _announce(kept: Kept | None, derivation: Derivation) -> None:
    builder = shlex.join(derivation.argv)
    if kept:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(kept.when))
        what = f"the build of {kept.step} that failed at {when}, in {kept.folder}"
    else:
        what = "a build that begins"
    click.echo(f"ccstore: this is {what}; its command is `{builder}`, its outputs go to /out", err=True)


@contextmanager
def shell_after(work: Workspace, options: Options, *, wanted: bool, keep: bool) -> Iterator[Sink]:
    """If `wanted`, a shell in the sandbox of the build that failed inside; the sink must hear of what is kept.

    Afterwards the build is removed, unless it is to be kept. The exit status is that of the failure.
    """
    kept: list[event.Kept] = []

    def watch(each: event.Event) -> None:
        if isinstance(each, event.Kept):
            kept.append(each)

    try:
        yield watch
    except CcError as error:
        build = read(Path(kept[0].folder)) if wanted and kept else None
        if build is None:
            raise
        show_error(error)
        enter_kept(work.store, build, entry_here(), cores=work.cores(options))
        if not keep:
            for each in kept:
                forget(Path(each.folder))
                click.echo(f"ccstore: {each.folder} is removed; --keep-failed keeps it", err=True)
        raise click.exceptions.Exit(error.exit_status) from error
