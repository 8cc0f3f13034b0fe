"""`ccstore lock`: pins the packages of a `debian` recipe anew, with an apt that is itself pinned.

What follows a branch of a git repository has its pins in the recipe itself (gitlock.py). That apt comes from the
recipe `apt` that ccstore carries, so any project on any host can lock.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

from ccstore.build.gitlock import PinMove, lock_git
from ccstore.build.own import own_workspace
from ccstore.build.workspace import Options, Workspace
from ccstore.debian.lock import compute_lock
from ccstore.debian.lockfile import LockDiff, LockedPackage, Request, diff, write_lock
from ccstore.errors import CcError
from ccstore.events import Finished, Logged, Sink, Started
from ccstore.model.graph import Ref
from ccstore.ports import Cancel, Executor
from ccstore.recipe.kinds import DebianRecipe, GitRecipe, Spec
from ccstore.recipe.lock import read_lock
from ccstore.recipe.project import Project, Recipe
from ccstore.store.store import Store

PROXIES = ("http_proxy", "https_proxy", "no_proxy")


def lockable(project: Project) -> list[str]:
    """The recipes that have a lock file, or that follow a branch."""
    return [name for name, recipe in project.recipes.items() if _is_lockable(recipe.spec)]


def _is_lockable(spec: Spec) -> bool:
    return isinstance(spec, DebianRecipe) or (isinstance(spec, GitRecipe) and spec.follow is not None)


def lock(
    project: Project, name: str, store: Store, sink: Sink, cancel: Cancel, *, allow_expired: bool = False
) -> LockDiff | PinMove:
    """Pins recipe `name` anew; `project` was loaded without locks. The result is what changed.

    Raises `usage` for a recipe that has nothing to pin, and what `compute_lock` and `lock_git` raise; the old pins
    then stay.
    """
    recipe = _recipe(project, name)
    if isinstance(recipe.spec, GitRecipe):
        return lock_git(project, recipe, recipe.spec, store, sink, cancel)
    assert isinstance(recipe.spec, DebianRecipe)
    return _lock_packages(project, name, recipe.spec, store, sink, cancel, allow_expired)


def _lock_packages(
    project: Project,
    name: str,
    spec: DebianRecipe,
    store: Store,
    sink: Sink,
    cancel: Cancel,
    allow_expired: bool,
) -> LockDiff:
    work = own_workspace("apt", store)
    [apt] = work.realize_refs([Ref("apt")], sink=sink, options=Options(), cancel=cancel).values()
    target = f"{name}.lock"
    sink(Started(target, "fetch"))
    began = time.monotonic()
    configured = replace(work, project=project)
    with store.session() as session, session.staging(target) as workspace:
        new = compute_lock(
            Request(spec.suite, tuple(sorted(spec.packages))),
            apt=store.objects.tree(apt.object.path),
            executor=_with_network(configured, sink),
            mirrors=configured.mirrors.bases("debian"),
            workspace=workspace,
            log=lambda data: sink(Logged(target, data.decode(errors="replace").rstrip())),
            cancel=cancel,
            env={key: os.environ[key] for key in PROXIES if key in os.environ},
            allow_expired=allow_expired,
        )
    changed = diff(_old_packages(spec), new.packages)
    try:
        write_lock(spec.lock.path, new)
    except OSError as error:
        message = f"the lock cannot be written: {error.strerror}"
        raise CcError(
            "usage", message, where=str(spec.lock.path), hint="make its folder writable, with room in it"
        ) from error
    sink(Finished(target, "fetch", time.monotonic() - began))
    return changed


def _with_network(work: Workspace, sink: Sink) -> Executor:
    """What runs apt: as configured, but never a cluster, as it needs a network."""
    wanted = work.project.config.executor or work.user.executor
    return work.executor("sandbox" if wanted == "remote" else wanted, sink)


def _recipe(project: Project, name: str) -> Recipe:
    recipe = project.recipes.get(name)
    if recipe is None:
        raise CcError(
            "recipe-unknown", f"there is no recipe {name!r}", hint="`ccstore list` shows what there is"
        )
    if not _is_lockable(recipe.spec):
        follows = "; a git recipe needs `follow: <branch>`" if isinstance(recipe.spec, GitRecipe) else ""
        raise CcError(
            "usage",
            f"{name} is a {recipe.spec.kind} recipe that nothing is pinned anew for{follows}",
            where=recipe.document.name,
            hint=f"the recipes that can be locked are: {', '.join(lockable(project)) or 'none'}",
        )
    return recipe


def _old_packages(spec: DebianRecipe) -> tuple[LockedPackage, ...]:
    """What the lock file pins now; nothing if there is none yet."""
    if not spec.lock.path.exists():
        return ()
    return tuple(
        LockedPackage(each.name, each.version, each.architecture, str(each.path), each.size, each.sha256.hex)
        for each in read_lock(spec.lock.path, spec.lock.label).packages
    )
