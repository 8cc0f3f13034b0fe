"""The JSON Schema of recipes, for editors; it is made from the models, so it cannot disagree with them."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from ccstore.recipe.kinds import AnyRecipe
from ccstore.recipe.settings import ProjectConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NULL = {"type": "null"}


def json_schema() -> dict[str, Any]:
    """The schema of a recipe file, `recipes/<name>.yml`."""
    schema: dict[str, Any] = _without_nulls(TypeAdapter(AnyRecipe).json_schema(by_alias=True))
    return {"$schema": DIALECT, "title": "ccstore recipe", **schema}


def config_schema() -> dict[str, Any]:
    """The schema of a project's configuration, `recipes/ccstore.yml`."""
    schema: dict[str, Any] = _without_nulls(ProjectConfig.model_json_schema(by_alias=True))
    return {"$schema": DIALECT, **schema}


def _without_nulls(schema: Any) -> Any:
    """Leaves out the null that stands for a key that is not given: written out, it is an error."""
    if isinstance(schema, list):
        return [_without_nulls(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {
        key: _without_nulls(value) for key, value in schema.items() if key != "default" or value is not None
    }
    choices = [each for each in result.get("anyOf", ()) if each != _NULL]
    if "anyOf" in result and len(choices) == 1:
        del result["anyOf"]
        outer = {key: value for key, value in result.items() if key != "title" or "title" not in choices[0]}
        return {**choices[0], **outer}
    return {**result, "anyOf": choices} if choices else result
