"""Realisations: the fact that derivation D, output o, gave store path P (DESIGN, rule 3)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from ccstore.model import bencode
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.signature import Signature, merged
from ccstore.model.storepath import StorePath

Origin = Literal["built", "substituted"]
Purity = Literal["clean", "assisted", "incremental"]
PURITIES: tuple[Purity, ...] = ("clean", "assisted", "incremental")  # from best to worst
FORMAT = 1
_ID = re.compile(r"([0-9a-f]{64})\^([0-9A-Za-z][0-9A-Za-z+._-]{0,99})")


class OutputId(NamedTuple):
    """A derivation's id (64 hex digits) and the name of one of its outputs."""

    derivation: str
    output: str

    def __str__(self) -> str:
        return f"{self.derivation}^{self.output}"

    @classmethod
    def parse(cls, text: str) -> OutputId:
        """Raises ValueError; what it takes is safe as the name of a file."""
        found = _ID.fullmatch(text)
        if not found:
            raise ValueError(f"{text[:200]!r} is not <derivation id>^<output>")
        return cls(found[1], found[2])


@dataclass(frozen=True, slots=True)
class Realisation:
    """`inputs` are the realisations that this one was made from: the edges of a closure. `signatures` are over
    `statement`, which says all of it but where it came from."""

    id: OutputId
    object: ObjectInfo
    inputs: tuple[OutputId, ...] = ()
    origin: Origin = "built"
    executor: str = ""
    purity: Purity = "clean"
    signatures: tuple[Signature, ...] = ()

    def statement(self) -> bytes:
        """The bytes that are signed; they may never change, or no old signature holds."""
        return bencode.encode(
            {
                "type": "ccstore-realisation-1",
                "id": str(self.id),
                "path": self.object.path.logical,
                "nar-hash": self.object.nar_hash.hex,
                "nar-size": self.object.nar_size,
                "inputs": [str(each) for each in self.inputs],
                "executor": self.executor,
                "purity": self.purity,
            }
        )

    def with_signatures(self, more: tuple[Signature, ...]) -> Realisation:
        return replace(self, signatures=merged(self.signatures, more))

    def to_json(self) -> str:
        """One line, keys in a fixed order: the content of a file in `realisations/`."""
        value: dict[str, Any] = {
            "format": FORMAT,
            "id": str(self.id),
            "path": self.object.path.base,
            "narHash": self.object.nar_hash.sri,
            "narSize": self.object.nar_size,
            "inputs": [str(each) for each in self.inputs],
            "origin": self.origin,
            "executor": self.executor,
            "purity": self.purity,
        }
        if self.signatures:
            value["signatures"] = [str(each) for each in self.signatures]
        return json.dumps(value, separators=(",", ":"))

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
                signatures=tuple(Signature.parse(each) for each in value.get("signatures", ())),
            )
        except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"not a realisation: {error!r}") from error


def worst(purities: list[Purity]) -> Purity:
    """A realisation is as pure as the worst of its own making and of its inputs."""
    return max(purities, key=PURITIES.index, default="clean")
