"""Where the project and the store are, found from the folder that a command runs in (nothing slow is imported)."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ccstore.errors import CcError

PROJECT_FILE = os.path.join("recipes", "ccstore.yml")


def find_project(start: str) -> str | None:
    """The nearest folder from `start` upward that has `recipes/ccstore.yml`. Raises `file-missing` if it is gone."""
    try:
        folder = os.path.abspath(start)
    except OSError as error:
        raise CcError(
            "file-missing", "the current folder was removed", hint="go to one that is there"
        ) from error
    while not os.path.isfile(os.path.join(folder, PROJECT_FILE)):
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent
    return folder


def require_project(start: str) -> str:
    """Like `find_project`; raises `no-project` where there is none."""
    project = find_project(start)
    if project is None:
        raise CcError(
            "no-project",
            f"no {PROJECT_FILE} here or in a folder above",
            where=os.path.abspath(start),
            hint="`ccstore init DIR` starts a project; -C DIR runs a command in one",
        )
    return project


def find_store(project: str | None, option: str | None, environ: Mapping[str, str]) -> str:
    """The store: --store, else CCSTORE_STORE, else the project's `store/`, else the user's data folder."""
    chosen = option or environ.get("CCSTORE_STORE")
    if chosen:
        return os.path.abspath(chosen)
    if project:
        return os.path.join(project, "store")
    data = environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return os.path.join(data, "ccstore", "store")


def carried() -> str:
    """The folder with the recipes and data of this repository that ccstore carries, a project of its own."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    installed = os.path.join(package, "carried")
    return (
        installed if os.path.isdir(installed) else os.path.dirname(package)
    )  # a checkout, installed editable
