"""A graph while it is made: what lowering one recipe adds to it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ccstore.model.graph import Build, Fetch, Local, Ref, Step
from ccstore.recipe.project import Project, Recipe
from ccstore.recipe.values import LocalFile

LONGEST_OBJECT_NAME = 150


@dataclass(slots=True)
class Draft:
    """Steps and aliases by name; references may still go to an alias or to a step that is yet to come."""

    project: Project
    steps: dict[str, Step] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    def add(self, step: Step) -> Ref:
        self.steps[step.name] = step
        return Ref(step.name)

    def add_or_alias(self, step: Fetch | Build, twin: str | None) -> Ref:
        """Adds `step`, unless the step called `twin` does the same: then its name is another name of that."""
        other = self.steps.get(self.real(twin)) if twin else None
        if other and same_work(step, other):
            self.aliases[step.name] = other.name
            return Ref(other.name)
        return self.add(step)

    def local(self, file: LocalFile) -> Ref:
        """The step for a named file, one for all recipes that name it: `./kernel/config/virtio.config`."""
        name = file.label if file.label.startswith("../") else f"./{file.label}"
        if name not in self.steps:
            found = self.project.found[file.path]
            self.add(Local(name, object_name(file.path.name), found.path, found.where))
        return Ref(name)

    def real(self, name: str) -> str:
        """The step that a name means, behind an alias."""
        return self.aliases.get(name, name)


def target(text: str) -> Ref:
    """`recipe`, `recipe.step` or `recipe^output` as a reference."""
    name, _, output = text.partition("^")
    return Ref(name, output or "out")


def same_work(one: Step, other: Step) -> bool:
    """Whether two steps differ at most in their names, and in what cannot change an output."""
    if isinstance(one, Fetch) and isinstance(other, Fetch):
        return (one.fixed.method, one.fixed.sha256) == (other.fixed.method, other.fixed.sha256)
    if isinstance(one, Build) and isinstance(other, Build):
        return _work(one) == _work(other)
    return False


def _work(step: Build) -> tuple[object, ...]:
    builder = (step.argv, step.root, step.files, step.env, step.policy)
    return (*builder, step.inputs, step.outputs, step.overlays)


def object_name(text: str) -> str:
    """`text` in the letters that a store object's name may have."""
    name = re.sub(r"[^0-9A-Za-z+\-._?=]+", "_", text)[:LONGEST_OBJECT_NAME]
    return f"_{name}" if re.match(r"\.\.?(?:-|$)", name) or not name else name


def place(recipe: Recipe, key: str) -> str:
    """Where a recipe says `key`, or its first line when it inherits that."""
    return recipe.document.where((key,), key=True)
