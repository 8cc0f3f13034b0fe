"""Lineages: what a target was made from, step by step, in the words of the recipes.

A derivation names its inputs by hash alone. A lineage keeps what a person calls them: which step or file an input is,
the version of a package, the commit of a repository, the text of a small file of the project. Two lineages can be
compared word by word, whatever was collected since.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ccstore.model.graph import Ref

FORMAT = 1
Kind = Literal["fetch", "local", "build"]
ROOT = "/"  # the name of a build's toolchain among its inputs


@dataclass(frozen=True, slots=True)
class Origin:
    """One step. `name` is the step's (`kernel.config`), or its object's where the recipe is not known any more.

    `derivation` is its id and `contents` the NAR hash (hex) of each output, as far as they are known. `inputs` are by
    the builder's names for them, ROOT being the toolchain. `env` and `files` are the builder's, `rest` whatever else
    identifies a build. `says` holds what a hash does not tell: version, file, commit, repository, image. `texts` are
    the files of something local by relative path ("" if it is a file), None where they were not kept.
    """

    name: str
    kind: Kind
    derivation: str | None = None
    contents: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Ref] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    rest: Mapping[str, str] = field(default_factory=dict)
    says: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] | None = None
    where: str = ""


@dataclass(frozen=True, slots=True)
class Lineage:
    """`top` and every step behind it, by a key that `Ref.step` names; `made` is unix time in seconds."""

    top: Ref
    made: int
    origins: Mapping[str, Origin]

    def to_json(self) -> str:
        value = {"format": FORMAT, "top": self.top, "made": self.made}
        return json.dumps(
            {**value, "origins": {key: asdict(each) for key, each in self.origins.items()}},
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Lineage:
        """Raises ValueError for anything that `to_json` does not write."""
        try:
            value: dict[str, Any] = json.loads(text)
            if value["format"] != FORMAT:
                raise ValueError(f"lineage format {value['format']!r} is not known")
            origins = {key: _origin(each) for key, each in value["origins"].items()}
            top = Ref(*value["top"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a lineage: {error!r}") from error
        if any(ref.step not in origins for each in origins.values() for ref in each.inputs.values()):
            raise ValueError("not a lineage: a step is missing")
        return cls(top, int(value["made"]), origins)


def _origin(value: dict[str, Any]) -> Origin:
    inputs = {name: Ref(*ref) for name, ref in value.pop("inputs").items()}
    return Origin(**value, inputs=inputs)
