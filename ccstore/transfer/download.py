"""The attempts at one file: one URL is tried again, with growing pauses, as long as its failures are transient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ccstore.ports import Cancel
from ccstore.transfer.attempt import (
    Line,
    Meter,
    TransferError,
    Wanted,
    redacted,
    transfer_file,
    transfer_http,
)
from ccstore.transfer.partial import Partial
from ccstore.transfer.patience import Patience, check, wait

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")


@dataclass(slots=True)
class Download:
    """The attempts at one file, which `content` keeps."""

    client: httpx.Client
    content: Partial
    wanted: Wanted
    meter: Meter
    line: Line
    patience: Patience

    def get(self, url: str) -> TransferError | None:
        """Tries `url` until it gives the file (None) or is given up."""
        failures = 0
        restarted = False
        reached = self.content.size
        while True:
            failure = self._attempt(url)
            if failure is None:
                return None
            if failure.got:
                mixed = self.content.mixed
                self.content.restart()
                if mixed and not restarted:  # an earlier answer may be to blame
                    restarted = True
                    continue
            # compared with the most that ever was here, or a server could make us start anew for ever
            gained = self.content.size >= reached + self.patience.gain
            reached = max(reached, self.content.size)
            failures = 1 if gained else failures + 1
            again = failure.kind == "transient" or (failure.kind == "stalled" and gained)
            if not again or failures >= self.patience.attempts:
                return failure
            if not pause(self.patience, self.line.cancel, failure, failures):
                return failure

    def _attempt(self, url: str) -> TransferError | None:
        check(self.line.cancel, redacted(url))
        try:
            if url.startswith("file:"):
                transfer_file(url, self.content, self.wanted, self.meter, self.line)
            else:
                transfer_http(self.client, url, self.content, self.wanted, self.meter, self.line)
        except TransferError as failure:
            return failure
        return None


def persist(attempt: Callable[[], T], patience: Patience, cancel: Cancel) -> T:
    """What `attempt` gives, tried again while it fails for reasons that pass; raises its last TransferError."""
    failures = 0
    while True:
        try:
            return attempt()
        except TransferError as failure:
            failures += 1
            if failure.kind not in ("transient", "stalled") or failures >= patience.attempts:
                raise
            if not pause(patience, cancel, failure, failures):
                raise


def pause(patience: Patience, cancel: Cancel, failure: TransferError, failures: int) -> bool:
    """Waits before the next attempt; False if the server wants more patience than there is."""
    seconds = patience.pause(failures)
    if failure.retry_after is not None:
        if failure.retry_after > patience.longest_pause:
            return False
        seconds = max(seconds, failure.retry_after)
    wait(cancel, seconds)
    return True
