"""Kernel recipes that extend others: each one with every field filled in."""

from __future__ import annotations

from collections.abc import Mapping

from ccstore.recipe.invalid import collected, suggestion
from ccstore.recipe.kinds import Config, KernelRecipe
from ccstore.recipe.parts import Part
from ccstore.recipe.project import Recipe

REQUIRED = ("version", "toolchain", "source", "config")


def full_kernels(recipes: Mapping[str, Recipe]) -> dict[str, KernelRecipe]:
    """The kernel recipes by name, each after the one that it extends, with what they inherit filled in.

    Raises `recipe-unknown`, `recipe-cycle` or `recipe-invalid` with the place.
    """
    full: dict[str, KernelRecipe] = {}
    for name in recipes:
        for each in reversed(_ancestry(recipes, name)):
            if each.name not in full:
                full[each.name] = _fill(each, full)
    return full


def _ancestry(recipes: Mapping[str, Recipe], name: str) -> list[Recipe]:
    """A kernel recipe, the one that it extends, and so on; nothing for another kind."""
    line: list[Recipe] = []
    recipe = recipes[name]
    while isinstance(recipe.spec, KernelRecipe):
        if recipe in line:
            circle = " → ".join([each.name for each in line[line.index(recipe) :]] + [recipe.name])
            message = f"recipes extend each other: {circle}"
            raise line[-1].document.error(message, ("extends",), code="recipe-cycle", hint="break the circle")
        line.append(recipe)
        if not recipe.spec.extends:
            break
        recipe = _parent(recipes, recipe, recipe.spec.extends)
    return line


def _parent(recipes: Mapping[str, Recipe], recipe: Recipe, name: str) -> Recipe:
    kernels = [each for each, found in recipes.items() if isinstance(found.spec, KernelRecipe)]
    if name not in recipes:
        hint = suggestion(name, [each for each in kernels if each != recipe.name], "the kernel recipes are")
        message = f"there is no recipe {name!r} to extend"
        raise recipe.document.error(message, ("extends",), code="recipe-unknown", hint=hint)
    if name not in kernels:
        kind = recipes[name].spec.kind
        raise recipe.document.error(f"{name!r} is no kernel, its kind is {kind}", ("extends",))
    return recipes[name]


def _fill(recipe: Recipe, full: Mapping[str, KernelRecipe]) -> KernelRecipe:
    spec = recipe.spec
    assert isinstance(spec, KernelRecipe)
    if spec.extends is None:
        _check_complete(recipe, spec)
        return spec
    parent = full[spec.extends]
    given = {name: getattr(spec, name) for name in spec.model_fields_set - {"config"}}
    config = _fill_config(recipe, spec.config, parent.config)
    return parent.model_copy(update={"imports": [], **given, "config": config})


def _check_complete(recipe: Recipe, spec: KernelRecipe) -> None:
    text = recipe.document
    missing = [name for name in REQUIRED if name not in spec.model_fields_set]
    if missing:
        hint = "or name a kernel recipe to take it from: `extends: …`"
        raise collected(
            text, [(text.mark(("kind",), key=True), f"{name!r} is missing", hint) for name in missing]
        )
    for name in ("add", "drop"):
        if name in spec.config.model_fields_set:
            hint = "without `extends`, list them in `fragments`"
            raise text.error(f"'config.{name}' needs `extends`", ("config", name), key=True, hint=hint)


def _fill_config(recipe: Recipe, own: Config, parent: Config) -> Config:
    given = own.model_fields_set
    fragments = own.fragments if "fragments" in given else _without(recipe, own, parent) + own.add
    base = own.base if "base" in given else parent.base
    return parent.model_copy(update={"base": base, "fragments": fragments})


def _without(recipe: Recipe, own: Config, parent: Config) -> list[Part]:
    known = {each.identity for each in parent.fragments}
    for index, each in enumerate(own.drop):
        if each.identity not in known:
            hint = suggestion(each.label, [found.label for found in parent.fragments], "it has")
            message = f"{each.label} is not a fragment of the recipe that this one extends"
            raise recipe.document.error(message, ("config", "drop", index), hint=hint)
    dropped = {each.identity for each in own.drop}
    return [each for each in parent.fragments if each.identity not in dropped]
