"""What the verbs of caches have in common: targets and store paths, with or without a project."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ccstore.build.caches import configured
from ccstore.build.locate import find_project
from ccstore.build.workspace import Workspace
from ccstore.cache.sources import Source
from ccstore.cli.context import open_store, open_workspace
from ccstore.errors import CcError
from ccstore.model.storepath import StorePath
from ccstore.recipe.project import UserConfig, load_user_config
from ccstore.store.store import Store


@dataclass
class Shared:
    """What an argument list means: targets of the project, if there is one, and store paths."""

    store: Store
    user: UserConfig
    work: Workspace | None
    targets: list[str] = field(default_factory=list)
    paths: list[StorePath] = field(default_factory=list)

    @property
    def caches(self) -> list[Source]:
        return self.work.caches if self.work else configured(self.user)

    def only_cache(self, given: str | None) -> str:
        """The cache that is meant; raises `usage` where more or fewer than one are configured."""
        if given:
            return given
        if len(self.caches) == 1:
            return self.caches[0].url
        raise CcError(
            "usage",
            f"{len(self.caches)} caches are configured, so which one is meant has to be said",
            hint="--to URL names the cache: file:///folder, or https://…",
        )


@contextmanager
def shared(arguments: tuple[str, ...], store: str | None) -> Iterator[Shared]:
    """Opens what `arguments` need. Store paths need no project; what has a slash or a store path's hash is one."""
    paths, targets = [], []
    for argument in arguments:
        path = _store_path(argument)
        if path:
            paths.append(path)
        else:
            targets.append(argument)
    if targets or find_project("."):
        with open_workspace(store) as work:
            yield Shared(work.store, work.user, work, targets, paths)
    else:
        with open_store(store) as opened:
            yield Shared(opened, load_user_config(os.environ), None, targets, paths)


def _store_path(argument: str) -> StorePath | None:
    try:
        return StorePath.parse(argument)
    except ValueError as error:
        if "/" not in argument:
            return None
        hint = "a store path is [/nix/store/]<32 characters>-<name>"
        raise CcError("usage", f"{argument} is no store path: {error}", hint=hint) from error
