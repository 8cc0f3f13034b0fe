"""Moving a pin in a recipe file: some values are replaced where they stand, and everything else stays as it is."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from ccstore.errors import CcError
from ccstore.recipe import document
from ccstore.recipe.document import Document, Loc

QUOTES = ("'", '"')


def moved(content: bytes, name: str, values: Mapping[Loc, str]) -> bytes:
    """The YAML text `content` with the scalar at each location replaced; comments and layout stay.

    `name` is what messages call the file. A value keeps its quotes. Raises `recipe-syntax`, and `recipe-invalid` for
    a value that is not there or written over several lines.
    """
    mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
    text = content.removeprefix(mark).decode()
    before = document.parse(text, name)
    lines = text.splitlines(keepends=True)
    for loc in sorted(values, key=lambda each: before.mark(each), reverse=True):
        _replace(lines, before, loc, values[loc])
    result = "".join(lines)
    if not _says(result, name, _with(before.data, values)):  # a value over several lines
        raise _unclear(before, next(iter(values)))
    return mark + result.encode()


def _says(text: str, name: str, data: Any) -> bool:
    try:
        return bool(document.parse(text, name).data == data)
    except CcError:
        return False


def _replace(lines: list[str], text: Document, loc: Loc, value: str) -> None:
    if loc not in text.texts:
        raise _unclear(text, loc)
    row, column, width = text.values[loc]
    line = lines[row]
    quote = line[column] if line[column] in QUOTES else ""
    lines[row] = f"{line[:column]}{quote}{value}{quote}{line[column + width :]}"


def _with(data: Any, values: Mapping[Loc, str]) -> Any:
    result = deepcopy(data)
    for loc, value in values.items():
        place = result
        for part in loc[:-1]:
            place = place[part]
        place[loc[-1]] = value
    return result


def _unclear(text: Document, loc: Loc) -> CcError:
    key = ".".join(map(str, loc))
    return text.error(
        f"{key} cannot be replaced where it stands", loc, hint="write it as one word on its line"
    )
