"""Recipes that ccstore carries for its own use, in whatever project it runs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ccstore.build import evaluation
from ccstore.build.locate import carried
from ccstore.build.workspace import Workspace
from ccstore.recipe.kinds import DebianRecipe
from ccstore.recipe.lock import read_lock
from ccstore.recipe.project import Recipe, load_project, load_user_config
from ccstore.recipe.settings import ProjectConfig
from ccstore.store.store import Store


def own_workspace(name: str, store: Store, config: ProjectConfig | None = None) -> Workspace:
    """A project of ccstore's own `debian` recipe `name` alone; `config` is that of the project it is made for."""
    carried_project = load_project(Path(carried()), locks=False)
    recipes = {name: _with_lock(carried_project.recipes[name])}
    project = replace(carried_project, recipes=recipes, config=config or carried_project.config)
    return Workspace(project, load_user_config(os.environ), store, evaluation.clock())


def _with_lock(recipe: Recipe) -> Recipe:
    assert isinstance(recipe.spec, DebianRecipe)
    return replace(recipe, lock=read_lock(recipe.spec.lock.path, recipe.spec.lock.label))
