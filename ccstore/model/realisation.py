"""Realisations: the fact that derivation D, output o, gave store path P (DESIGN, rule 3)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.storepath import StorePath

Origin = Literal["built", "substituted"]
Purity = Literal["clean", "assisted", "incremental"]
PURITIES: tuple[Purity, ...] = ("clean", "assisted", "incremental")  # from best to worst
FORMAT = 1


class OutputId(NamedTuple):
    """A derivation's id (64 hex digits) and the name of one of its outputs."""

    derivation: str
    output: str

    def __str__(self) -> str:
        return f"{self.derivation}^{self.output}"

    @classmethod
    def parse(cls, text: str) -> OutputId:
        derivation, caret, output = text.partition("^")
        if len(derivation) != 64 or not caret or not output:
            raise ValueError(f"{text!r} is not <derivation id>^<output>")
        return cls(derivation, output)


@dataclass(frozen=True, slots=True)
class Realisation:
    """`inputs` are the realisations that this one was made from: the edges of a closure."""

    id: OutputId
    object: ObjectInfo
    inputs: tuple[OutputId, ...] = ()
    origin: Origin = "built"
    executor: str = ""
    purity: Purity = "clean"

    def to_json(self) -> str:
        """One line, keys in a fixed order: the content of a file in `realisations/`."""
        return json.dumps(
            {
                "format": FORMAT,
                "id": str(self.id),
                "path": self.object.path.base,
                "narHash": self.object.nar_hash.sri,
                "narSize": self.object.nar_size,
                "inputs": [str(each) for each in self.inputs],
                "origin": self.origin,
                "executor": self.executor,
                "purity": self.purity,
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Realisation:
        """Raises ValueError for anything that `to_json` does not write."""
        try:
            value: dict[str, Any] = json.loads(text)
            if value["format"] != FORMAT or value["purity"] not in PURITIES:
                raise ValueError(f"unknown format or purity in {text[:200]!r}")
            path, nar_hash = StorePath.parse(value["path"]), Sha256.parse(value["narHash"])
            if path != StorePath.of_content(path.name, nar_hash):
                raise ValueError(f"{path} is not the path of an object with the NAR hash {nar_hash.sri}")
            return cls(
                id=OutputId.parse(value["id"]),
                object=ObjectInfo(path, nar_hash, int(value["narSize"])),
                inputs=tuple(OutputId.parse(each) for each in value["inputs"]),
                origin="substituted" if value["origin"] == "substituted" else "built",
                executor=str(value["executor"]),
                purity=value["purity"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a realisation: {error!r}") from error


def worst(purities: list[Purity]) -> Purity:
    """A realisation is as pure as the worst of its own making and of its inputs."""
    return max(purities, key=PURITIES.index, default="clean")
