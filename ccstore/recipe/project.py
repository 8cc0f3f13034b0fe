"""Loading a project: its configuration, its recipes, the recipe files that those import, and lock files.

    <root>/recipes/ccstore.yml     configuration; marks the project
    <root>/recipes/<name>.yml      one recipe each

Everything is checked here that one recipe can be checked for alone; what recipes say of each other is checked by
`lower`. What was read is remembered, so that the answer can be reused while none of it changes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ccstore.errors import CcError
from ccstore.recipe import document, files
from ccstore.recipe.document import Document, Loc
from ccstore.recipe.files import PROJECT_FILE, Found
from ccstore.recipe.invalid import collected, suggestion, validate
from ccstore.recipe.kinds import KINDS, DebianRecipe, Spec
from ccstore.recipe.lock import Lock, check_fresh, read_lock
from ccstore.recipe.settings import ProjectConfig, UserConfig, project_id
from ccstore.recipe.userfile import user_file
from ccstore.recipe.values import NAME, Base

__all__ = [
    "Project",
    "ProjectConfig",
    "Recipe",
    "UserConfig",
    "files_of_user",
    "load_project",
    "load_user_config",
]

_RECIPE_NAME = re.compile(NAME)
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe file: what it says, where it says so, and what it rests on."""

    name: str
    path: Path
    spec: Spec
    document: Document
    lock: Lock | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """`root` has no links in it. `found` says, for each path that a recipe names, where that file really is.

    `files_read` and `dirs_listed` are absolute: as long as none of them changes, neither does the project.
    """

    root: Path
    config: ProjectConfig
    recipes: Mapping[str, Recipe]
    found: Mapping[Path, Found]
    files_read: tuple[Path, ...]
    dirs_listed: tuple[Path, ...]


def load_user_config(environ: Mapping[str, str]) -> UserConfig:
    """The person's configuration, which need not exist; raises `config-invalid`."""
    file = user_file(environ)
    if file is None or not os.path.lexists(file):
        return UserConfig()
    path = Path(file)
    text = document.read(path, file, document.CONFIG)
    return validate(text, UserConfig, Base(path.parent, path.parent))


def files_of_user(environ: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What the person's configuration rests on: files and links that were read, and files that are not there."""
    file = user_file(environ)
    if file is None:
        return [], []
    if not os.path.lexists(file):
        return [], [file]
    return [*map(str, files.links_to(Path(file))), os.path.realpath(file)], []


def load_project(root: Path, *, locks: bool = True) -> Project:
    """Reads everything that the project at `root` says.

    Without `locks` no lock file is read, so that one can be written (`Recipe.lock` is None then, and the project
    cannot be lowered). Raises CcError with the place for whatever is wrong.
    """
    return _Loading(Path(os.path.realpath(root)), locks).load()


@dataclass(slots=True)
class _Loading:
    """A project while it is read; paths in `files_read` keep their order."""

    root: Path
    locks: bool
    recipes: dict[str, Recipe] = field(default_factory=dict)
    found: dict[Path, Found] = field(default_factory=dict)
    files_read: dict[Path, None] = field(default_factory=dict)

    def load(self) -> Project:
        config = self._config()
        folder = self.root / PROJECT_FILE.parent
        waiting = [(self._own(path), "") for path in self._listed(folder)]
        for path, where in waiting:  # grows by what is imported
            recipe = self._recipe(path, where)
            if recipe:
                self.recipes[recipe.name] = recipe
                waiting += [
                    (each.path, recipe.document.where(("import", index)))
                    for index, each in enumerate(recipe.spec.imports)
                ]
        recipes = dict(sorted(self.recipes.items()))
        return Project(self.root, config, recipes, self.found, tuple(self.files_read), (folder,))

    def _config(self) -> ProjectConfig:
        path = self._own(self.root / PROJECT_FILE)
        text = self._read(path, document.CONFIG)
        config = validate(text, ProjectConfig, Base(path.parent, self.root))
        if config.project:
            return config
        return config.model_copy(update={"project": project_id(self.root.name)})

    def _listed(self, folder: Path) -> list[Path]:
        """The recipe files of the project, without its configuration."""
        try:
            names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
        except OSError as error:
            raise CcError(
                "file-missing",
                f"recipes/ cannot be read: {error.strerror}",
                where="recipes",
                hint="see to it that you may read that folder",
            ) from error
        for name in names:
            if name.endswith(".yaml"):
                hint = f"rename it to {name[:-5]}.yml"
                raise CcError("name-invalid", "recipe files end in .yml", where=f"recipes/{name}", hint=hint)
        return [folder / name for name in names if name.endswith(".yml") and name != PROJECT_FILE.name]

    def _own(self, path: Path) -> Path:
        """The project's own file, refused if it is a link to elsewhere."""
        real = Path(os.path.realpath(path))
        if not files.is_inside(real, self.root):
            raise CcError(
                "recipe-outside",
                f"this is a link that leads out of the project, to {real}",
                where=str(path.relative_to(self.root)),
                hint="name the file in an `import:` of another recipe, or copy it into the project",
            )
        return path

    def _read(self, path: Path, codes: document.Codes) -> Document:
        self._remember(path)
        return document.read(path, os.path.relpath(path, self.root), codes)

    def _remember(self, path: Path) -> None:
        """Notes a file that is read, and the links on the way to it."""
        self.files_read |= dict.fromkeys(files.links_to(path))
        self.files_read[Path(os.path.realpath(path))] = None

    def _recipe(self, path: Path, imported: str) -> Recipe | None:
        """The recipe in `path`; None when that file was read before. `imported` is the place that names it."""
        name = _recipe_name(path, imported or os.path.relpath(path, self.root))
        before = self.recipes.get(name)
        if before and os.path.realpath(before.path) == os.path.realpath(path):
            return None
        text = self._read(path, document.RECIPE)
        if before:
            raise CcError(
                "recipe-invalid",
                f"two files define the recipe {name!r}: {before.document.name} and {text.name}",
                where=imported or text.name,
                hint="rename one of them",
            )
        spec = validate(text, _model_for(text), Base(path.parent, self.root))
        self._find_files(spec, text, path)
        return Recipe(name, path, spec, text, self._lock(name, spec, text))

    def _find_files(self, spec: Spec, text: Document, path: Path) -> None:
        home = files.home_of(path, self.root)
        errors: list[CcError] = []
        for loc, file in files.named_files(spec):
            if (loc == ("lock",) and not self.locks) or loc[:2] == ("config", "drop"):
                continue
            if spec.may_lack(loc) and files.is_inside(file.path, home) and not os.path.lexists(file.path):
                self.files_read[files.nearest_folder(file.path)] = None
                continue
            try:
                found = files.find(text, loc, file, home)
            except CcError as error:
                errors.append(error)
                continue
            self.found.setdefault(file.path, found)
            self.files_read |= dict.fromkeys(files.links_to(file.path))
        if errors:
            raise _first(errors)

    def _lock(self, name: str, spec: Spec, text: Document) -> Lock | None:
        if not isinstance(spec, DebianRecipe) or not self.locks:
            return None
        self._remember(spec.lock.path)
        lock = read_lock(self.found[spec.lock.path].path, spec.lock.label)
        check_fresh(lock, spec, text, name)
        return lock


def _first(errors: list[CcError]) -> CcError:
    """The first error; the others in its details."""
    first = errors[0]
    others = [line for each in errors[1:] for line in (f"{each.where}: {each.message}", *each.details)]
    first.details = (*first.details, *others)
    return first


def _recipe_name(path: Path, where: str) -> str:
    name = path.stem
    if path.suffix != ".yml" or len(name) > _LONGEST_NAME or not _RECIPE_NAME.fullmatch(name):
        raise CcError(
            "name-invalid",
            f"{path.name!r} cannot name a recipe",
            where=where,
            hint=f"<name>.yml, the name being a-z, 0-9 and -, at most {_LONGEST_NAME} of them",
        )
    if path.name == PROJECT_FILE.name:
        raise CcError(
            "name-invalid",
            "ccstore.yml is a project's configuration, not a recipe",
            where=where,
            hint="import the files of the recipes themselves",
        )
    return name


def _model_for(text: Document) -> type[Spec]:
    """The model of the recipe's `kind`."""
    if not isinstance(text.data, dict):
        raise text.error("a recipe is a mapping of keys to values", hint="begin with `kind: …`")
    kind = text.data.get("kind")
    if isinstance(kind, str) and kind in KINDS:
        return KINDS[kind]
    loc: Loc = ("kind",)
    if kind is None:
        message, hint = "'kind' is missing", f"the kinds are {', '.join(KINDS)}"
    else:
        message = f"there is no kind {kind!r}"
        hint = suggestion(str(kind), KINDS, "the kinds are")
    raise collected(text, [(text.mark(loc), message, hint)])
