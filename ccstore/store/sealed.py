"""Small files of JSON that tell by themselves whether they are as they were written.

A sealed file is one line, an object whose last key is `check`: the XXH3-64, in hex, of the object's text without it.
It finds what a disk or a hand did by accident; nobody is kept from writing another one. A file without `check`,
as older versions wrote it, is taken as it is.
"""

from __future__ import annotations

import re
from pathlib import Path

import xxhash

from ccstore.store import files

_LAST = re.compile(r',"([^"]*)":"([^"]*)"\}\n?\Z')
_CHECK = re.compile(r"[0-9a-f]{16}")


def write(file: Path, text: str) -> None:
    """Writes `text`, a JSON object that is not empty, so that a power cut leaves the old or the new."""
    files.write_atomically(file, seal(text))


def seal(text: str) -> bytes:
    """The content of a sealed file of `text`."""
    return f'{text[:-1]},"check":"{_check(text)}"}}\n'.encode()


def read(file: Path) -> str:
    """The object in `file`. Raises ValueError if it is not what was written, and OSError."""
    text = files.read(file).decode()
    found = _LAST.search(text)
    if found is None or not (found[1] == "check" or _CHECK.fullmatch(found[2])):
        return text
    content = f"{text[: found.start()]}}}"
    if found[1] != "check" or found[2] != _check(content) or text[-1] != "\n":
        raise ValueError("it is not what was written: its checksum differs")
    return content


def _check(text: str) -> str:
    return xxhash.xxh3_64_hexdigest(text.encode())
