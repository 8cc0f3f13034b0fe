"""A cache as it is configured."""

from __future__ import annotations

from dataclasses import dataclass

from ccstore.codec.rechannel import Remote
from ccstore.codec.signing import PublicKey


@dataclass(frozen=True, slots=True)
class Source:
    """Where a cache is and who is believed there; without `priority` the cache's own counts.

    With `trusted` it is believed unsigned, too. `service` is the service for remote execution, in which it may be.
    """

    url: str
    keys: tuple[PublicKey, ...] = ()
    priority: int | None = None
    trusted: bool = False
    service: Remote | None = None
