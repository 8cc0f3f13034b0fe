"""`ccstore schema`: the JSON Schema of recipes, for editors."""

from __future__ import annotations

import click

from ccstore.cli.context import print_json
from ccstore.recipe.schema import json_schema


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of a recipe file.

    \b
    ccstore schema > recipe.schema.json
    # then, as the first line of a recipe, for editors with the YAML language server:
    # yaml-language-server: $schema=../recipe.schema.json
    """
    print_json(json_schema())
