"""What a fuzzer needs to know of a reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


def as_it_is(data: bytes) -> bytes:
    return data


@dataclass(frozen=True)
class Target:
    """`run` gives a text to the reader, with an empty folder to write to, and raises whatever is a finding.

    It returns whether the text was accepted; a refusal in the documented way is no finding. `seeds` are what the
    fuzzer begins with, by name, `tokens` are words of the format. `mend` makes a mutated text plausible again
    (checksums), so that mutations reach what is behind them.
    """

    run: Callable[[bytes, Path], bool]
    seeds: Mapping[str, bytes]
    tokens: tuple[bytes, ...] = ()
    max_size: int = 4096
    mend: Callable[[bytes], bytes] = as_it_is
