"""Moving pins where they stand: nothing else of a recipe's text changes."""

from __future__ import annotations

import pytest

from ccstore.errors import CcError
from ccstore.recipe.document import Loc
from ccstore.recipe.pins import moved

OLD, NEW = "a" * 40, "b" * 40
VALUES: dict[Loc, str] = {("commit",): NEW, ("sha256",): "sha256-new="}


@pytest.mark.parametrize(
    "text",
    [
        "# one\ncommit: {0}  # two\n\nsha256:   {1}\n# three",
        "sha256: '{1}'\ncommit: \"{0}\"\n",
        "{{commit: {0}, sha256: {1}}}",
        "commit: {0}\r\nsha256: {1}\r\n",
        "\ufeffcommit: {0}\nsha256: {1}\n",
        "url: é\u2028commit: {0}\nsha256: {1}\n",
        "commit:\n  {0}\nsha256:\n  {1}\n",
        'commit: "{0}"\nsha256: {1}\nagain: {0}\n',
    ],
)
def test_only_the_values_change(text: str) -> None:
    before = text.format(OLD, "old")
    again = before.count(OLD) - 1
    after = (
        text.format(NEW, "sha256-new=")
        if not again
        else text.format(NEW, "sha256-new=").replace(f"again: {NEW}", f"again: {OLD}")
    )
    assert moved(before.encode(), "x.yml", VALUES) == after.encode()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"commit: >-\n  {OLD}\nsha256: old\n", "x.yml:1:9"),
        (f'commit: "aaa\\\n  aaa"\nsha256: {OLD}\n', "x.yml:1:9"),
        (f"commit: [{OLD}]\nsha256: old\n", "x.yml:1:9"),
        ("sha256: old\n", "x.yml:1:1"),
    ],
)
def test_what_cannot_be_replaced_is_refused(text: str, place: str) -> None:
    with pytest.raises(CcError) as caught:
        moved(text.encode(), "x.yml", VALUES)
    assert (caught.value.code, caught.value.where) == ("recipe-invalid", place)
