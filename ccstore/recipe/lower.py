"""From recipes to the graph of steps; the only place that decides what enters a derivation (DESIGN, rule 2).

Nothing is read here but the texts of the builders. The order of keys, comments and the place of the project do
not matter to the result.
"""

from __future__ import annotations

from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from ccstore.errors import CcError
from ccstore.model.derivation import DEBIAN_TREE_REVISION, FixedOutput
from ccstore.model.graph import Build, Fetch, GitSource, Graph, Local, Ref, Step, UrlSource
from ccstore.model.storepath import check_name
from ccstore.recipe.document import Loc
from ccstore.recipe.draft import Draft, object_name, place, target
from ccstore.recipe.extends import full_kernels
from ccstore.recipe.guest import GuestRecipe
from ccstore.recipe.invalid import suggestion
from ccstore.recipe.kinds import BuildRecipe, DebianRecipe, GitRecipe, KernelRecipe, PathRecipe, UrlRecipe
from ccstore.recipe.lower_guest import lower_guest
from ccstore.recipe.lower_kernel import download, lower_kernel
from ccstore.recipe.project import Project, Recipe


def lower(project: Project) -> Graph:
    """The steps of every recipe.

    Raises `recipe-unknown` for a reference to what is not there, `recipe-cycle`, and `recipe-invalid` for a kernel
    that lacks a field; each with the place.
    """
    draft = Draft(project)
    for name, spec in full_kernels(project.recipes).items():
        lower_kernel(draft, project.recipes[name], spec)
    for recipe in project.recipes.values():
        _lower(draft, recipe)
    for recipe in project.recipes.values():
        for loc, text in recipe.spec.uses():
            _check_use(draft, recipe, loc, text)
    steps = {name: _settled(draft, step) for name, step in sorted(draft.steps.items())}
    _check_cycles(project, steps)
    aliases = {name: draft.real(name) for name in sorted(draft.aliases)}
    return Graph(steps, aliases, {name: each.spec.kind for name, each in project.recipes.items()})


def _lower(draft: Draft, recipe: Recipe) -> None:
    spec, name = recipe.spec, recipe.name
    match spec:
        case UrlRecipe():
            draft.add(download(recipe, name, spec, place(recipe, "kind"), executable=spec.executable))
        case GitRecipe():
            source = GitSource(spec.url, spec.commit, tuple(sorted(set(spec.paths))))
            draft.add(Fetch(name, FixedOutput(name, "nar", spec.sha256), source, place(recipe, "kind")))
        case PathRecipe():
            found = draft.project.found[spec.path.path]
            draft.add(Local(name, name, found.path, recipe.document.where(("path",))))
        case DebianRecipe():
            _lower_debian(draft, recipe, spec)
        case BuildRecipe():
            _lower_build(draft, recipe, spec)
        case GuestRecipe():
            lower_guest(draft, recipe, spec)
        case KernelRecipe():
            pass  # done before, parents first


def _lower_debian(draft: Draft, recipe: Recipe, spec: DebianRecipe) -> None:
    if recipe.lock is None:
        raise ValueError(f"{recipe.name} was loaded without its lock, so it cannot be lowered")
    inputs: dict[str, Ref] = {}
    where = place(recipe, "lock")
    for package in recipe.lock.packages:
        fixed = FixedOutput(object_name(f"{recipe.name}-{package.name}"), "flat", package.sha256)
        source = UrlSource((f"mirror://debian/{package.path}",), package.size)
        step = Fetch(f"{recipe.name}.{package.name}", fixed, source, where, package.version)
        inputs[package.name] = draft.add(step)
    files = {
        "links": "".join(f"{path} -> {text}\n" for path, text in sorted(spec.links.items())),
        "exclude": "".join(f"{glob}\n" for glob in sorted(set(spec.exclude))),
    }
    draft.add(
        Build(
            recipe.name,
            recipe.name,
            ("builtin:debian-tree",),
            None,
            inputs=inputs,
            files=files,
            policy=DEBIAN_TREE_REVISION,
            where=place(recipe, "kind"),
        )
    )


def _lower_build(draft: Draft, recipe: Recipe, spec: BuildRecipe) -> None:
    for index, output in enumerate(spec.outputs):
        _check_object_name(recipe, f"{recipe.name}-{output}", ("outputs", index))
    inputs: dict[str, Ref] = {}
    labels: dict[str, str] = {}
    for name, given in spec.inputs.items():
        if given.path:
            inputs[name] = draft.local(given.path)
            labels[name] = given.path.label
        elif given.target:
            inputs[name] = target(given.target)
    draft.add(
        Build(
            recipe.name,
            recipe.name,
            ("/bin/bash", "-eu", "/in/.builder/build.sh"),
            target(spec.toolchain),
            inputs=inputs,
            files={"build.sh": spec.script},
            env={**spec.env, "SOURCE_DATE_EPOCH": str(spec.source_date_epoch)},
            outputs=tuple(spec.outputs),
            overlays=dict(spec.overlays),
            timeout=spec.timeout,
            labels=labels,
            where=place(recipe, "kind"),
        )
    )


def _check_object_name(recipe: Recipe, name: str, loc: Loc) -> None:
    """Before anything is built: an output's object bears the name of its recipe too."""
    try:
        check_name(name)
    except ValueError as error:
        message = f"the output's object cannot be called {name[:40]}…: {len(name)} letters are too many"
        raise recipe.document.error(
            message, loc, hint="give the output or the recipe a shorter name"
        ) from error


def _check_use(draft: Draft, recipe: Recipe, loc: Loc, text: str) -> None:
    ref = target(text)
    step = draft.steps.get(draft.real(ref.step))
    if step is None:
        names = sorted(name for name in {*draft.steps, *draft.aliases} if name[0] != ".")
        hint = suggestion(ref.step, [each for each in names if each != recipe.name], "there is")
        message = f"there is no recipe or step {ref.step!r}"
        raise recipe.document.error(message, loc, code="recipe-unknown", hint=hint)
    outputs = step.outputs if isinstance(step, Build) else ("out",)
    if ref.output not in outputs:
        message = f"{ref.step} has no output {ref.output!r}"
        hint = f"its outputs are: {', '.join(outputs)}"
        raise recipe.document.error(message, loc, code="recipe-unknown", hint=hint)


def _settled(draft: Draft, step: Step) -> Step:
    """The step with its references going to steps, not to aliases."""
    if not isinstance(step, Build):
        return step

    def real(ref: Ref) -> Ref:
        return Ref(draft.real(ref.step), ref.output)

    inputs = {name: real(ref) for name, ref in sorted(step.inputs.items())}
    return replace(step, root=real(step.root) if step.root else None, inputs=inputs)


def _check_cycles(project: Project, steps: dict[str, Step]) -> None:
    needs = {
        name: {ref.step for ref in step.references()} if isinstance(step, Build) else set()
        for name, step in steps.items()
    }
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        raise _cycle(project, list(reversed(error.args[1]))) from error


def _cycle(project: Project, circle: list[str]) -> CcError:
    """`circle` begins and ends with the same step, each needing the next."""
    start = circle.index(min(circle))
    circle = [*circle[start:-1], *circle[:start], circle[start]]
    recipes = [name.partition(".")[0] for name in circle]
    message, hint = f"recipes need each other: {' → '.join(circle)}", "break the circle"
    for name in recipes:
        recipe = project.recipes[name]
        for loc, text in recipe.spec.uses():
            if target(text).step.partition(".")[0] in recipes:
                return recipe.document.error(message, loc, code="recipe-cycle", hint=hint)
    return project.recipes[recipes[0]].document.error(message, code="recipe-cycle", hint=hint)
