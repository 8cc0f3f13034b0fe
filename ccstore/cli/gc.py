"""`ccstore gc`: deletes what no root needs."""

from __future__ import annotations

import os
import re
from dataclasses import asdict

import click

from ccstore.build.leftovers import sweep_docker
from ccstore.cli.console import progress
from ccstore.cli.context import json_option, open_store, print_json, size, store_option
from ccstore.executor.docker_sweep import Swept
from ccstore.store.gc import GcOptions, GcReport, collect

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Size(click.ParamType[int]):
    """Bytes with an optional decimal unit: 500M, 20G."""

    name = "SIZE"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([kMGT]?)B?", value)
        if not found:
            self.fail(f"{value!r} is no size: 500M or 20G is", param, ctx)
        return int(float(found[1]) * _UNITS[found[2]])


class Age(click.ParamType[float]):
    """A span of time: 90m, 12h, 30d."""

    name = "AGE"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", value)
        if not found:
            self.fail(f"{value!r} is no age: 12h or 30d is", param, ctx)
        return float(found[1]) * _SECONDS[found[2]]


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@click.option(
    "--max-size", type=Size(), help="Delete the oldest first, and only until the store is this small."
)
@click.option("--older-than", type=Age(), help="Only what was registered longer ago.")
@click.option(
    "--keep-inputs/--no-keep-inputs",
    default=True,
    show_default=True,
    help="Also keep what the roots were built from: sources, trees, the toolchain.",
)
@click.option(
    "--optimise",
    is_flag=True,
    help="Afterwards share the files that objects have in common: hard links, or reflinks.",
)
@click.option("--explain", metavar="PATH", help="Delete nothing: say what keeps PATH, or a target, alive.")
@json_option
@store_option
def command(
    dry_run: bool,
    max_size: int | None,
    older_than: float | None,
    keep_inputs: bool,
    optimise: bool,
    explain: str | None,
    as_json: bool,
    store: str | None,
) -> None:
    """Delete the store objects that no root and no running command needs.

    Also what builds of this store left in a Docker daemon: images of toolchains that are gone, and what a killed
    build could not remove itself.

    \b
    ccstore gc --dry-run
    ccstore gc --no-keep-inputs                   keep the kernels, drop what they were built from
    ccstore gc --max-size 20G --older-than 30d
    ccstore gc --optimise                         what is registered shares with what is there; this shares the rest
    ccstore gc --explain kernel.tree              which root keeps it, by which realisations; or which process
    """
    if explain is not None:
        from ccstore.cli.explain import explain as show

        show(explain, store, as_json=as_json)
        return
    options = GcOptions(dry_run, max_size, older_than, keep_inputs, optimise)
    with open_store(store) as opened, progress() as sink:
        report = collect(opened, options, sink)
        swept = sweep_docker(opened, os.environ, sink, dry_run=dry_run)
        if as_json:
            print_json(_value(report) | {"docker": asdict(swept)})
            return
        folder = str(opened.layout.objects)
        if report.names:
            click.echo("\n".join([f"{folder}/{name}" for name in report.names]))
    done = "would be deleted" if dry_run else "deleted"
    click.echo(
        f"{len(report.names)} objects {done}, {size(report.freed)} freed; {report.kept} kept", err=True
    )
    if optimise:
        shared, would = report.shared, "would be " if dry_run else ""
        click.echo(f"{shared.files} files {would}shared, {size(shared.freed)} freed", err=True)
    if any(asdict(swept).values()):
        click.echo(f"in Docker {done}: {_counted(swept)}", err=True)


def _counted(swept: Swept) -> str:
    counts = {what: count for what, count in asdict(swept).items() if count}
    return ", ".join(f"{count} {what if count > 1 else what[:-1]}" for what, count in counts.items())


def _value(report: GcReport) -> dict[str, object]:
    return {
        "deleted": [path.logical for path in report.deleted],
        "freedBytes": report.freed,
        "kept": report.kept,
        "realisations": report.realisations,
        "logs": report.logs,
        "rubbish": report.rubbish,
        "waitedFor": list(report.waited_for),
        "shared": {"files": report.shared.files, "freedBytes": report.shared.freed},
    }
