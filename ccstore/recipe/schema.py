"""The JSON Schema of recipes, for editors; it is made from the models, so it cannot disagree with them."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from ccstore.recipe.kinds import AnyRecipe
from ccstore.recipe.settings import ProjectConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema of a recipe file, `recipes/<name>.yml`."""
    schema: dict[str, Any] = TypeAdapter(AnyRecipe).json_schema(by_alias=True)
    return {"$schema": DIALECT, "title": "ccstore recipe", **schema}


def config_schema() -> dict[str, Any]:
    """The schema of a project's configuration, `recipes/ccstore.yml`."""
    return {"$schema": DIALECT, **ProjectConfig.model_json_schema(by_alias=True)}
