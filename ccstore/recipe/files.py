"""The files that recipes name: where they are said, whether they are there, and what may be read.

A relative path starts at the folder of the file that names it. A path that a recipe spells out may lead out of
the project; a symbolic link may not (DESIGN, rule 16): that would be read without anybody having named it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ccstore.errors import CcError
from ccstore.recipe.document import Document, Loc
from ccstore.recipe.linuxkit_values import ProjectFile
from ccstore.recipe.values import LocalFile

MAX_LINKS = 40  # as in Linux
PROJECT_FILE = Path("recipes", "ccstore.yml")


@dataclass(frozen=True, slots=True)
class Found:
    """A named file that is there: where it really lies, and the place that names it."""

    path: Path
    where: str


def named_files(value: Any, loc: Loc = ()) -> Iterator[tuple[Loc, LocalFile]]:
    """Every path in a validated recipe, with its location in the text."""
    if isinstance(value, LocalFile):
        yield loc, value
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            if name in value.model_fields_set:
                yield from named_files(getattr(value, name), (*loc, field.alias or name))
    elif isinstance(value, (list, dict)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from named_files(item, (*loc, key))


def find(document: Document, loc: Loc, file: LocalFile, home: Path) -> Found:
    """Raises `file-missing`, `recipe-outside` or `recipe-invalid` at `loc`."""
    if isinstance(file, ProjectFile) and not is_inside(file.path, home):
        message = f"{file.label} is outside of the project"
        hint = "copy the file into the project, and name it relative to this one"
        raise document.error(message, loc, code="recipe-outside", hint=hint)
    real = Path(os.path.realpath(file.path))
    if is_inside(file.path, home) and not is_inside(real, home):
        message = f"{file.label} is a link that leads out of the project, to {real}"
        hint = "name the file itself in the recipe, or copy it into the project"
        raise document.error(message, loc, code="recipe-outside", hint=hint)
    try:
        mode = real.stat().st_mode
    except OSError as error:
        raise _missing(document, loc, file, error) from error
    if stat.S_ISDIR(mode) and not file.folder_allowed:
        raise document.error(f"{file.label} is a folder, a file is wanted", loc)
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise document.error(f"{file.label} is neither a file nor a folder", loc)
    return Found(real, document.where(loc))


def is_inside(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def nearest_folder(path: Path) -> Path:
    """The folder that changes when `path`, which is not there, appears."""
    return next(folder for folder in path.parents if folder.is_dir())


def links_to(path: Path) -> list[Path]:
    """The symbolic links on the way to a file, in the order in which they are followed (40 of a circle)."""
    if Path(os.path.realpath(path)) == path:
        return []
    links: list[Path] = []
    rest = list(reversed(path.parts[1:]))
    here = Path(path.root)
    while rest and len(links) < MAX_LINKS:
        here = Path(os.path.normpath(here / rest.pop()))
        if here.is_symlink():
            links.append(here)
            rest += reversed(here.readlink().parts)
            here = here.parent
    return links


def is_project(folder: Path) -> bool:
    try:
        return (folder / PROJECT_FILE).is_file()
    except OSError:  # a folder that may not be looked into
        return False


def home_of(recipe: Path, root: Path) -> Path:
    """The folder that links of this recipe file must stay in: its project, or where it lies on its own."""
    if is_inside(recipe, root):
        return root
    for folder in recipe.parents:
        if is_project(folder):
            return folder
    return recipe.parent


def _missing(document: Document, loc: Loc, file: LocalFile, error: OSError) -> CcError:
    folder = file.path.parent
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        names = []
    close = get_close_matches(file.path.name, names, 1)
    label = Path(file.label).with_name(close[0]) if close else ""
    hint = f"did you mean {label}?" if close else "paths are relative to the file that names them"
    if loc[-1:] == ("lock",):
        hint += "; `ccstore lock`, and the recipe's name, writes it"
    message = f"{file.label} cannot be read: {error.strerror or error}"
    return document.error(message, loc, code="file-missing", hint=hint)
