"""Verbs that pass on the exit status of what they ran: `run`, `shell`."""

from __future__ import annotations

import signal
import threading
from typing import Any, NoReturn

import click

from ccstore.errors import CcError

OWN_FAILURE = 125


class PassingStatus(click.Command):
    """A command whose exit status is that of what it ran; its own failures are 125, whatever they are."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.ClickException as error:
            from ccstore.cli.app import usage_error

            raise _failed(usage_error(error)) from error

    def invoke(self, ctx: click.Context) -> Any:
        terminated = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: _interrupt(terminated))
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            if not terminated.is_set():
                raise
            raise click.exceptions.Exit(128 + signal.SIGTERM) from None
        except CcError as error:
            raise _failed(error) from error
        except (click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            from ccstore.cli.app import unexpected

            unexpected(error, debug=ctx.find_root().params["debug"])
            raise click.exceptions.Exit(OWN_FAILURE) from error


def _interrupt(terminated: threading.Event) -> NoReturn:
    terminated.set()
    raise KeyboardInterrupt


def _failed(error: CcError) -> click.exceptions.Exit:
    from ccstore.cli.app import show_error

    show_error(error)
    return click.exceptions.Exit(OWN_FAILURE)
