"""Where a person's configuration lies (nothing slow is imported)."""

from __future__ import annotations

import os
from collections.abc import Mapping


def user_file(environ: Mapping[str, str]) -> str | None:
    """`ccstore/config.yml` in $XDG_CONFIG_HOME, else in ~/.config; None for whoever has no home."""
    folder = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):
        home = environ.get("HOME")
        if not home:
            return None
        folder = os.path.join(home, ".config")
    return os.path.join(folder, "ccstore", "config.yml")
