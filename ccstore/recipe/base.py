"""What every kind of recipe has."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from ccstore.recipe.document import Loc
from ccstore.recipe.values import FilePath, Model


class RecipeBase(Model):
    """What every recipe may say."""

    imports: list[FilePath] = Field(
        default=[],
        alias="import",
        description="Other recipe files, whose recipes join this project under their own names.",
        examples=[["../../shared/recipes/toolchain.yml"]],
    )

    def uses(self) -> Iterator[tuple[Loc, str]]:
        """The targets that this recipe names, each with its place in the text."""
        return iter(())

    def may_lack(self, loc: Loc) -> bool:
        """Whether the file that is named at `loc` need not be there."""
        return False
