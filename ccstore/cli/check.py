"""`ccstore check`: builds again under other conditions, and compares."""

from __future__ import annotations

from pathlib import Path

import click

from ccstore.build.vary import INSIDE, LABELS, NAMES, OUTSIDE, chosen
from ccstore.cli.console import progress
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
from ccstore.errors import CcError
from ccstore.ports import Cancel

MOST_ROUNDS = 100


class Names(click.ParamType[frozenset[str]]):
    """Conditions, separated by commas."""

    name = "NAMES"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> frozenset[str]:
        if isinstance(value, frozenset):
            return value
        names = frozenset(each.strip() for each in str(value).split(",") if each.strip())
        for name in sorted(names - set(NAMES)):
            self.fail(f"{name!r} is no condition: there are {', '.join(NAMES)}", param, ctx)
        return names


def _described(names: tuple[str, ...]) -> str:
    return ", ".join(f"{name} ({LABELS[name]})" if name != LABELS[name] else name for name in names)


EPILOG = f"""Conditions around the sandbox: {_described(OUTSIDE)}.

Conditions inside, with --strict: {_described(INSIDE)}."""


@click.command("check", epilog=EPILOG)
@targets_argument
@click.option(
    "--rounds",
    type=click.IntRange(1, MOST_ROUNDS),
    default=1,
    show_default=True,
    metavar="N",
    help="Build so many times, each time under other conditions.",
)
@click.option("--strict", is_flag=True, help="Vary what the sandbox fixes for every build, too.")
@click.option("--vary", type=Names(), metavar="NAMES", help="Vary these conditions only.")
@click.option("--without", type=Names(), metavar="NAMES", help="Leave these conditions as they were.")
@click.option("--recursive", "-r", is_flag=True, help="Check every step behind TARGET, too, inputs first.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Copy both outputs that differ to DIR, which must be new or empty.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write diffoscope's report of what differs to DIR (diffoscope must be installed).",
)
@click.option(
    "--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write the result as JUnit's XML, too."
)
@executor_option("What builds again (default: the sandbox, which alone can vary more than jobs and store).")
@remote_option
@click.option("--verbose", "-v", is_flag=True, help="Print the builds' output as it comes.")
@json_option
@store_option
def command(
    targets: tuple[str, ...],
    rounds: int,
    strict: bool,
    vary: frozenset[str] | None,
    without: frozenset[str] | None,
    recursive: bool,
    keep: Path | None,
    html: Path | None,
    junit: Path | None,
    executor: str | None,
    remote: str | None,
    verbose: bool,
    as_json: bool,
    store: str | None,
) -> None:
    """Build TARGET again under other conditions, without any cache, and compare the bytes.

    Prints a line for each output and says what was varied; exits 4 with a report of what differs, where and why, if
    anything does. What is behind TARGET is taken from the store. TARGET is realised first if it is not.

    \b
    ccstore check kernel
    ccstore check --strict --rounds 2 kernel
    ccstore check --recursive clear-containers --junit report.xml
    ccstore check --vary umask,order kernel      is it one of these?
    ccstore check --executor remote kernel       does a cluster give the same bytes?
    """
    from ccstore.build.check import CheckOptions, check
    from ccstore.cli import check_report

    if vary and without:
        raise click.UsageError("give --vary or --without, not both")
    executor = executor_for(executor, remote)
    options = CheckOptions(
        rounds=rounds,
        left_out=chosen(
            strict, vary or frozenset(), without or frozenset(), in_sandbox=executor in (None, "sandbox")
        ),
        recursive=recursive,
        keep=keep,
        html=html,
        executor=executor,
        remote=remote,
    )
    with open_workspace(store) as work:
        with progress(verbose=verbose) as sink:
            found = check(work, list(targets), options, sink=sink, cancel=Cancel())
        if junit:
            check_report.write_junit(junit, found)
        if as_json:
            print_json(check_report.as_value(work, found))
        else:
            check_report.print_all(work, found)
    different = [name for each in found for name in check_report.different(each)]
    if different:
        raise CcError(
            "not-reproducible",
            f"{', '.join(different)}: not the same when built again",
            hint="the report above says where and why" if not as_json else "see `differences`",
        )
