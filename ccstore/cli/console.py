"""How progress looks: a live view on a terminal, plain lines in a pipe. Both write to stderr only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ccstore.events import Sink


@contextmanager
def progress(*, verbose: bool = False) -> Iterator[Sink]:
    """A sink for as long as the work lasts: live where stderr is a terminal that can redraw."""
    if sys.stderr.isatty() and not verbose:
        from ccstore.cli.live import live_view

        with live_view() as sink:
            yield sink
    else:
        from ccstore.cli.plain import PlainLines

        yield PlainLines(verbose=verbose)
