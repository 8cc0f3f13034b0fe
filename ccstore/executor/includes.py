"""What an `#include` could find besides what it found the last time.

ccache's direct mode looks at the files that a compilation read, and so cannot see that another file would be found
before one of them now (its manual, "the direct mode"). Names that can have that effect are part of its keys here.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

from ccstore.ports import Tree

# a name that ends so is included by nothing
_NEVER = (
    "Makefile",
    "Kbuild",
    "Kconfig",
    ".rst",
    ".txt",
    ".yaml",
    ".json",
    ".sh",
    ".py",
    ".pl",
    ".gitignore",
)
# these are included by their own folder's files; another of the same name could be found in their place
_SELDOM = (".c", ".S")


def includable(inputs: Mapping[str, Tree]) -> str:
    """A digest of the names, in hexadecimal: another one if a file was added or removed that could be found first."""
    names = [
        f"{name}/{entry.path}"
        for name, tree in inputs.items()
        for entry in tree.entries()
        if entry.type != "directory" and not entry.path.endswith(_NEVER)
    ]
    often = Counter(map(_last, names))
    kept = [name for name in names if not name.endswith(_SELDOM) or often[_last(name)] > 1]
    text = "\0".join(sorted(kept))
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _last(name: str) -> str:
    return name.rpartition("/")[2]
