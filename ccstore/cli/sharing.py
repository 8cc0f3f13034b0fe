"""What the verbs of caches have in common: targets and store paths, with or without a project.

What costs more than a small push, loading the project and its recipes, is done only when the answer of the last
evaluation does not hold any more, or something is asked that it does not tell.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ccstore.build import evaluation
from ccstore.build.caches import configured, remembered
from ccstore.build.locate import find_project, require_project
from ccstore.build.remotes import configured_remote
from ccstore.build.sharing import evaluated
from ccstore.cache.open import SERVICE
from ccstore.cache.source import Source
from ccstore.cli.context import open_store
from ccstore.codec.rechannel import Remote
from ccstore.errors import CcError
from ccstore.model.realisation import Realisation
from ccstore.model.storepath import StorePath
from ccstore.store.store import Store

if TYPE_CHECKING:
    from ccstore.build.workspace import Workspace
    from ccstore.recipe.settings import UserConfig


class Shared:
    """What an argument list means: `targets` of the project, if there is one, and store `paths`."""

    def __init__(self, arguments: tuple[str, ...], store: str | None) -> None:
        self.targets: list[str] = []
        self.paths: list[StorePath] = []
        for argument in arguments:
            path = _store_path(argument)
            if path:
                self.paths.append(path)
            else:
                self.targets.append(argument)
        self.project = require_project(".") if self.targets else find_project(".")
        self._given_store = store

    @cached_property
    def store(self) -> Store:
        return open_store(self._given_store)

    @cached_property
    def work(self) -> Workspace | None:
        """The project, evaluated as it is now."""
        from ccstore.build.workspace import Workspace

        return Workspace.load(Path(self.project), lambda: self.store) if self.project else None

    @cached_property
    def user(self) -> UserConfig:
        from ccstore.recipe.project import load_user_config

        return self.work.user if self.work else load_user_config(os.environ)

    @cached_property
    def _known(self) -> dict[str, evaluation.Known | None]:
        """What the evaluation cache has of each target."""
        store, project = str(self.store.root), self.project or ""
        return {target: evaluation.known(store, project, target) for target in self.targets}

    @cached_property
    def caches(self) -> list[Source]:
        """The configured caches."""
        for known in self._known.values():
            if known and (caches := remembered(known.caches)) is not None:
                return caches
        return self.work.caches if self.work else configured(self.user, service=self.service)

    @cached_property
    def service(self) -> Remote | None:
        """The service for remote execution that is configured."""
        if self.work:
            return self.work.service
        return configured_remote(None, self.user, os.environ)

    def at(self, url: str) -> Source:
        """A cache that need not be configured; it is trusted in nothing."""
        return Source(url.rstrip("/"), service=self.service if SERVICE.fullmatch(url) else None)

    def only_cache(self, given: str | None) -> Source:
        """The cache that is meant; raises `usage` where more or fewer than one are configured."""
        if given:
            return self.at(given)
        if len(self.caches) == 1:
            return self.caches[0]
        raise CcError(
            "usage",
            f"{len(self.caches)} caches are configured, so which one is meant has to be said",
            hint="--to URL names the cache: file:///folder, https://…, or grpcs://… for a service",
        )

    def realised(self) -> list[Realisation]:
        """What the targets give as their recipes are now; raises `not-realised`."""
        return [self._realised(target) for target in self.targets]

    def _realised(self, target: str) -> Realisation:
        known = self._known[target]
        found = evaluated(self.store, known) if known else None
        if found is None:
            assert self.work, "targets have a project"
            return self.work.require_realised(target)
        return found


@contextmanager
def shared(arguments: tuple[str, ...], store: str | None) -> Iterator[Shared]:
    """What `arguments` mean. Store paths need no project; what has a slash or a store path's hash is one."""
    found = Shared(arguments, store)
    try:
        yield found
    finally:
        if "store" in vars(found):
            found.store.close()


def _store_path(argument: str) -> StorePath | None:
    try:
        return StorePath.parse(argument)
    except ValueError as error:
        if "/" not in argument:
            return None
        hint = "a store path is [/nix/store/]<32 characters>-<name>"
        raise CcError("usage", f"{argument} is no store path: {error}", hint=hint) from error
