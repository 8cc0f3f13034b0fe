"""How progress looks: a live view on a terminal, plain lines in a pipe. Both write to stderr only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ccstore.events import Sink


def is_live(*, verbose: bool = False) -> bool:
    """Whether `progress` is a view that changes all the time."""
    return sys.stderr.isatty() and not verbose


@contextmanager
def progress(*, verbose: bool = False) -> Iterator[Sink]:
    """A sink for as long as the work lasts: live where stderr is a terminal that can redraw."""
    if is_live(verbose=verbose):
        from ccstore.cli.live import live_view

        with live_view() as sink:
            yield sink
    else:
        from ccstore.cli.plain import PlainLines

        yield PlainLines(verbose=verbose)
