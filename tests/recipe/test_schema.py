"""The JSON Schema and the recipe reference agree with the models, and with the recipes that there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from ccstore.errors import CcError
from ccstore.recipe import reference
from ccstore.recipe.kinds import KINDS
from ccstore.recipe.project import load_project
from ccstore.recipe.schema import config_schema, json_schema
from tests.recipe import sample

REPOSITORY = Path(__file__).parent.parent.parent
OWN = sorted(path for path in (REPOSITORY / "recipes").glob("*.yml") if path.name != "ccstore.yml")
README = REPOSITORY / "README.md"
REGENERATE = "python -m ccstore.recipe.reference README.md"


def validate(text: str, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(text) or {})


def test_the_schemas_are_schemas() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.Draft202012Validator.check_schema(config_schema())


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_the_repositorys_recipes_fit_the_schema(path: Path) -> None:
    validate(path.read_text(encoding="utf-8"), json_schema())


def test_the_repositorys_configuration_fits_the_schema() -> None:
    validate((REPOSITORY / "recipes" / "ccstore.yml").read_text(encoding="utf-8"), config_schema())


@pytest.mark.parametrize("name", [name for name in sample.FILES if name.startswith("recipes/")])
def test_the_samples_recipes_fit_the_schema(name: str) -> None:
    validate(sample.FILES[name], config_schema() if name.endswith("ccstore.yml") else json_schema())


@pytest.mark.parametrize(
    "text",
    [
        sample.KERNEL.replace("patches:", "patchs:"),
        sample.KERNEL.replace("kind: kernel", "kind: kernle"),
        sample.KERNEL.replace("toolchain: toolchain\n", ""),
        sample.KERNEL.replace("timeout: 3h", "timeout: 180"),
        sample.KERNEL.replace("timeout: 3h", "timeout: ~"),
        sample.KERNEL.replace("size: 137945728", "size: big"),
        sample.KERNEL.replace("version: 6.10", "version: [6, 10]"),
        sample.MODULE.replace("{path: ../module/hello.c}", "{file: x}"),
    ],
)
def test_the_schema_and_the_models_refuse_the_same(text: str, tmp_path: Path) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate(text, json_schema())
    with pytest.raises(CcError):
        sample.graph(sample.write(tmp_path, kernel=text))


def test_the_repositorys_project_loads() -> None:
    """Its files are there and its locks are fresh; what it lowers to is tested elsewhere."""
    project = load_project(REPOSITORY)
    assert {"kernel", "toolchain"} <= set(project.recipes)


def test_the_repositorys_project_lowers() -> None:
    graph = sample.graph(REPOSITORY)
    kernel = graph.find("kernel")
    assert {"kernel.source", "kernel.tree", "kernel.config", "toolchain"} <= {
        step.name for step in graph.closure(kernel)
    }


def test_every_key_of_every_kind_is_described() -> None:
    text = reference.reference()
    for kind, model in KINDS.items():
        section = text.partition(f"### `kind: {kind}`\n")[2].partition("\n### ")[0]
        for name, field in model.model_fields.items():
            if name not in ("kind", "imports"):
                assert f"\n| `{field.alias}` |" in section
                assert field.description


def test_every_example_fits_its_key() -> None:
    definitions = json_schema()["$defs"]
    for model in KINDS.values():
        for field in model.model_fields.values():
            schema = {**definitions[model.__name__]["properties"][str(field.alias)], "$defs": definitions}
            for example in field.examples or ():
                read = yaml.safe_load(example) if isinstance(example, str) else example
                jsonschema.Draft202012Validator(schema).validate(read)


def test_the_text_between_the_markers_is_replaced() -> None:
    text = f"before\n{reference.BEGIN}\nold\n{reference.END}\nafter\n"
    assert (
        reference.replaced(text)
        == f"before\n{reference.BEGIN}\n{reference.reference()}{reference.END}\nafter\n"
    )
    with pytest.raises(ValueError, match="no "):
        reference.replaced("no markers")


def test_the_readmes_reference_is_current() -> None:
    text = README.read_text(encoding="utf-8")
    assert reference.replaced(text) == text, f"the recipe reference of README.md is old, run: {REGENERATE}"
