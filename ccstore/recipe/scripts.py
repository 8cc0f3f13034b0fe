"""The texts of the builders, which enter the derivations that they build."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ccstore import builders


@cache
def script(name: str) -> str:
    """The text of `ccstore/builders/<name>`."""
    # importlib.resources would take 8 ms to import
    return Path(builders.__path__[0], name).read_text(encoding="utf-8")


def scripts(*names: str) -> dict[str, str]:
    return {name: script(name) for name in names}
