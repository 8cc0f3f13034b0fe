"""The recipe reference of the README, made from the models: `python -m ccstore.recipe.reference README.md`.

The text between the two markers is replaced; without a file the reference is printed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ccstore.recipe.extends import REQUIRED
from ccstore.recipe.kinds import KINDS, KernelRecipe
from ccstore.recipe.schema import config_schema, json_schema

BEGIN = "<!-- recipe reference: begin (python -m ccstore.recipe.reference README.md) -->"
END = "<!-- recipe reference: end -->"
COMMON = ("kind", "import")
_HEAD = ("| key | type | default | meaning |", "|---|---|---|---|")


def reference() -> str:
    """Every kind of recipe with its keys, then the configuration, as Markdown that begins at level 3."""
    schema = json_schema()
    parts = [_common(schema)]
    parts += [
        _section(f"`kind: {kind}`", schema["$defs"][model.__name__], schema) for kind, model in KINDS.items()
    ]
    config = config_schema()
    parts.append(_section("Configuration: `recipes/ccstore.yml`", config, config))
    return "\n\n".join(parts) + "\n"


def replaced(text: str) -> str:
    """`text` with the reference between its markers; raises ValueError if it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no {BEGIN!r} followed by {END!r}")
    return f"{before}{BEGIN}\n{reference()}{END}{after}"


def _common(schema: dict[str, Any]) -> str:
    field = schema["$defs"][KernelRecipe.__name__]["properties"]["import"]
    kinds = ", ".join(f"`{kind}`" for kind in KINDS)
    return "\n".join(
        (
            "### Every recipe",
            "",
            *_HEAD,
            f"| `kind` | {kinds} | required | What is made; the other keys follow from it. |",
            f"| `import` | {_type('import', field, schema)} |  | {field['description']} |",
        )
    )


def _section(title: str, model: dict[str, Any], schema: dict[str, Any]) -> str:
    rows = [" | ".join(("", *cells, "")).strip() for cells in _rows(model, schema, "", {})]
    text = " ".join(model["description"].split())
    return "\n".join((f"### {title}", "", text, "", *_HEAD, *rows))


def _rows(
    model: dict[str, Any], schema: dict[str, Any], prefix: str, shown: dict[str, str]
) -> Iterator[tuple[str, str, str, str]]:
    """The keys of a mapping, and below each those of the one in it; `shown` says where which stands already."""
    for key, field in model["properties"].items():
        if key in COMMON and not prefix:
            continue
        required = key in model.get("required", ())
        inner = field if "unsupported" in field else _definition(field, schema)
        path = f"{prefix}{key}" + ("[]" if "items" in field and "properties" in inner else "")
        before = shown.get(inner.get("title", "")) if "properties" in inner else None
        meaning = _meaning(field, before)
        yield f"`{prefix}{key}`", _type(key, field, schema), _default(key, field, model, required), meaning
        if "properties" in inner and not before:
            shown[inner["title"]] = path
            yield from _rows(inner, schema, f"{path}.", shown)


def _meaning(field: dict[str, Any], before: str | None) -> str:
    meaning = str(field.get("description", ""))
    if "unsupported" in field:
        meaning += f" Valid in LinuxKit, not supported: {field['unsupported']}."
    if before:
        meaning += f" Its keys are those of `{before}`."
    if "examples" in field:
        meaning += f" Example: `{_flow(field['examples'][0])}`"
    return meaning.replace("|", "\\|")


def _definition(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """What a field, or each item of a list, is."""
    reference = field.get("$ref") or field.get("items", {}).get("$ref", "")
    name = reference.rpartition("/")[2]
    found: dict[str, Any] = schema["$defs"][name] if name else field
    return found


def _type(key: str, field: dict[str, Any], schema: dict[str, Any]) -> str:
    title = field.get("title", "")
    if title and title.replace("-", " ") != key.replace("-", " ").title():
        return str(title)
    if "$ref" in field:
        inner = _definition(field, schema)
        return "mapping" if "properties" in inner else str(inner["title"])
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{each}`" for each in field["enum"])
    if field.get("type") == "array":
        return f"list of: {_type('', field['items'], schema)}"
    if field.get("type") == "object":
        values = field.get("additionalProperties") or next(iter(field["patternProperties"].values()))
        return f"map of names to: {_type('', values, schema)}"
    return "text"


def _default(key: str, field: dict[str, Any], model: dict[str, Any], required: bool) -> str:
    if required:
        return "required"
    if model["title"] == KernelRecipe.__name__ and key in REQUIRED:
        return "required without `extends`"
    value = field.get("default")
    return f"`{_flow(value)}`" if value not in (None, "", [], {}) else ""


def _flow(value: Any) -> str:
    """YAML in flow style, with quotes only where a plain word would not do."""
    if isinstance(value, list):
        return f"[{', '.join(_flow(each) for each in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, str):
        return value
    return json.dumps(value)


def main(arguments: list[str]) -> None:
    if not arguments:
        sys.stdout.write(reference())
    for name in arguments:
        path = Path(name)
        path.write_text(replaced(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
