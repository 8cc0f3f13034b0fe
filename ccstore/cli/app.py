"""The command line as a whole: the group of verbs, and how every failure is shown."""

from __future__ import annotations

import errno
import os
import signal
import sys
from types import FrameType

import click

from ccstore.cli.terminal import shown
from ccstore.cli.verbs import Verbs
from ccstore.errors import CcError

# in the order of the help text; each is a module of this package with a command of the same name
VERBS = [
    *(
        "realize",
        "plan",
        "path",
        "why",
        "diff",
        "list",
        "show",
        "graph",
        "log",
        "profile",
        "shell",
        "dev",
        "check",
    ),
    *("run", "export", "runtime-config"),
    *("cache",),
    *("gc", "root", "verify", "hash", "lock", "schema", "doctor", "init"),
]
EPILOG = "TARGET is a recipe (kernel), a step of one (kernel.config) or an output (kernel^dev)."


@click.group(
    cls=Verbs,
    verbs=VERBS,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="ccstore")
@click.option("-C", "directory", metavar="DIR", type=click.Path(), help="Run as if started in DIR.")
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
def cli(directory: str | None, debug: bool) -> None:
    """Guest kernels and immutable guest images as reproducible, content-addressed derivations."""
    if directory:
        try:
            os.chdir(directory)
        except OSError as error:
            message = f"cannot enter {directory}: {error.strerror}"
            raise CcError("file-missing", message, hint="-C wants a folder") from error


def run(argv: list[str]) -> int:
    """Runs one command line and returns its exit status (DESIGN, rule 18)."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        status = cli.main(argv, prog_name="ccstore", standalone_mode=False)
    except CcError as error:
        show_error(error)
        return error.exit_status
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:  # its message is the whole help text
        print(error.format_message(), file=sys.stderr)
        return 2
    except click.ClickException as error:
        show_error(usage_error(error))
        return 2
    except (KeyboardInterrupt, click.exceptions.Abort):
        print("interrupted", file=sys.stderr)
        return 130
    except SystemExit as error:
        if error.code != 1:
            raise
        _drop_output()  # so click ends when the reader of stdout went away
        return 141
    except Exception as error:
        return unexpected(error, debug="--debug" in argv)
    return status if isinstance(status, int) else 0


def show_error(error: CcError) -> None:
    """Prints an error: what happened, where, the details, and what to do next."""
    lines = [f"error: {shown(error.message)} [{error.code}]"]
    if error.where:
        lines.append(f"  at {shown(error.where)}")
    lines += [f"  | {shown(line)}" for line in error.details]
    if error.hint:
        lines.append(f"  next: {shown(error.hint)}")
    print("\n".join(lines), file=sys.stderr)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def usage_error(error: click.ClickException) -> CcError:
    context = getattr(error, "ctx", None)
    hint = (
        f"`{context.command_path} --help` shows the usage" if context else "`ccstore --help` shows the usage"
    )
    return CcError("usage", error.format_message(), hint=hint)


def _drop_output() -> None:
    """Whatever is still to be written to stdout goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def unexpected(error: Exception, *, debug: bool) -> int:
    """Shows what nobody foresaw, and gives the exit status; stdout on a full disk is the user's to mend."""
    if debug:
        import traceback

        traceback.print_exc()
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        _drop_output()
        where = str(error.filename) if error.filename else "the output"
        full = CcError("disk-full", "no space left to write to", where=where, hint="free some space there")
        show_error(full)
        return full.exit_status
    show_error(
        CcError(
            "internal",
            f"{type(error).__name__}: {error}",
            hint="this is a defect of ccstore: `ccstore --debug …` shows the traceback to report",
        )
    )
    return 1
