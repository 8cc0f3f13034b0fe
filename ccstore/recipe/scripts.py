"""The texts of the builders, which enter the derivations that they build."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ccstore import builders
from ccstore.errors import CcError


@cache
def script(name: str) -> str:
    """The text of a builder in `ccstore.builders`, or of the single-module package that one needs (kconfiglib)."""
    own = Path(builders.__path__[0], name)  # importlib.resources takes 8 ms to import
    if own.is_file():
        return own.read_text(encoding="utf-8")
    found = find_spec(name.removesuffix(".py"))
    if not found or not found.origin or Path(found.origin).name != name:
        hint = "install ccstore again: its dependencies are not complete"
        raise CcError("tool-missing", f"the builder {name} is not installed", hint=hint)
    return Path(found.origin).read_text(encoding="utf-8")


def scripts(*names: str) -> dict[str, str]:
    return {name: script(name) for name in names}
