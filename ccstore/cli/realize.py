"""`ccstore realize`: makes targets exist and prints their store paths."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ccstore.build.workspace import Options, Workspace
from ccstore.cli.console import is_live, progress
from ccstore.cli.context import (
    executor_for,
    executor_option,
    json_option,
    open_workspace,
    print_json,
    remote_option,
    store_option,
    targets_argument,
)
from ccstore.cli.plan import print_plan
from ccstore.cli.shell import shell_after
from ccstore.events import all_of
from ccstore.explain.trace import traced
from ccstore.model.realisation import Realisation
from ccstore.ports import Cancel


@click.command("realize")
@targets_argument
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "--jobs", "-j", type=click.IntRange(1), metavar="N", help="Builds at once (default: 2, on a cluster 16)."
)
@click.option(
    "--cores",
    type=click.IntRange(1),
    metavar="N",
    help="Make jobs of all builds together; in Docker and remotely, of each (default: all cores).",
)
@click.option("--no-substitute", is_flag=True, help="Build even what a binary cache could give.")
@click.option("--keep-failed", is_flag=True, help="Keep the folder of a build that fails.")
@click.option(
    "--shell-on-failure", is_flag=True, help="Enter the sandbox of a build that fails, as it is then."
)
@click.option(
    "--assist/--no-assist",
    default=None,
    help="Let builds use what compilers made before (default: as configured, else not).",
)
@click.option(
    "--distribute", is_flag=True, help="Compile kernels on the service for remote execution, by recc."
)
@click.option("--incremental", is_flag=True, help="Go on in the folder that the last build of a kernel left.")
@click.option("--pure", is_flag=True, help="Make again what was made with any of these.")
@executor_option("Where builds run.")
@remote_option
@click.option("--verbose", "-v", is_flag=True, help="Print the builds' output as it comes.")
@click.option(
    "--trace",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what happened when, for Perfetto or chrome://tracing.",
)
@json_option
@store_option
def command(
    targets: tuple[str, ...],
    dry_run: bool,
    jobs: int | None,
    cores: int | None,
    no_substitute: bool,
    keep_failed: bool,
    shell_on_failure: bool,
    assist: bool | None,
    distribute: bool,
    incremental: bool,
    pure: bool,
    executor: str | None,
    remote: str | None,
    verbose: bool,
    trace: Path | None,
    as_json: bool,
    store: str | None,
) -> None:
    """Make TARGET exist and print its store path, one a line.

    Whatever is already in the store is used as it is; the rest is fetched and built. Each target becomes a
    GC root of its name, so that `ccstore gc` keeps it.

    \b
    ccstore realize kernel                  the kernel, with everything it needs
    ccstore realize kernel.config           only its configuration
    ccstore realize kernel^dev --cores 8    its headers, with eight make jobs
    ccstore realize kernel --incremental    after a change: what it reaches, and nothing else
    ccstore realize kernel --pure           the same, built whole; says whether the bytes agree
    ccstore realize kernel --distribute --cores 32      its files, compiled by the workers of a cluster
    """
    began = time.monotonic()
    with open_workspace(store) as work:
        keep = keep_failed or shell_on_failure
        options = Options(
            jobs,
            cores,
            keep,
            executor_for(executor, remote, distribute=distribute),
            remote=remote,
            substitute=not no_substitute,
            assist=assist,
            distribute=distribute,
            incremental=incremental,
            pure=pure,
        )
        if dry_run:
            print_plan(work, list(targets), options, as_json=as_json)
            return
        failures = shell_after(work, options, wanted=shell_on_failure, keep=keep_failed)
        with failures as failed, traced(trace, began) as events:
            with events.own("load", began):
                refs = work.find(list(targets))
            with events.own("realize"), progress(verbose=verbose) as shown:
                sink = all_of(shown, failed, *((events,) if trace else ()))
                live = is_live(verbose=verbose)
                found = work.realize(list(targets), sink=sink, options=options, cancel=Cancel(), foresee=live)
        if as_json:
            print_json([as_value(work, name, found[ref]) for name, ref in zip(targets, refs, strict=True)])
        else:
            for ref in refs:
                click.echo(str(work.store.objects.path(found[ref].object.path)))


def as_value(work: Workspace, target: str, realisation: Realisation) -> dict[str, object]:
    """A realised target as JSON: the physical path, the logical one, and what made it."""
    info = realisation.object
    return {
        "target": target,
        "path": str(work.store.objects.path(info.path)),
        "storePath": info.path.logical,
        "narHash": info.nar_hash.sri,
        "narSize": info.nar_size,
        "derivation": realisation.id.derivation,
        "output": realisation.id.output,
        "origin": realisation.origin,
        "executor": realisation.executor,
        "purity": realisation.purity,
    }
