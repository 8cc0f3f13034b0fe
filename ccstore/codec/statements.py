"""What a binary cache says of one output of a derivation: realisations, each with its signatures, as JSON.

    realisations/<derivation id>.<output>.json, relative to the cache

    {"format": 1, "id": "<derivation id>^<output>",
     "realisations": [{"path": "<hash>-<name>", "narHash": "sha256-…", "narSize": 120, "inputs": ["<id>^<output>", …],
                       "executor": "sandbox", "purity": "clean", "signatures": ["<key name>:<base64>", …]}, …]}

Several, because whoever builds may get there from other inputs that have the same content, or get something else;
a reader takes the first that a key which it trusts has signed. Signatures are over `Realisation.statement`, so
each stands for exactly one of them, and a key has signed at most one: its last word. The reader takes text of at
most 1 MiB and refuses whatever is not of this form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import PURITIES, OutputId, Realisation
from ccstore.model.signature import Signature
from ccstore.model.storepath import StorePath

MAX_SIZE = 1 << 20
FORMAT = 1
_EXECUTOR = re.compile(r"[0-9A-Za-z._-]{0,64}")
_MOST = 32  # realisations of one output; the oldest go first


def name(output: OutputId) -> str:
    """Where a cache keeps what it says of `output`; safe in a URL and as a file's name."""
    return f"realisations/{output.derivation}.{output.output}.json"


def encode(output: OutputId, realisations: Iterable[Realisation]) -> bytes:
    values = [_value(each) for each in realisations]
    text = json.dumps({"format": FORMAT, "id": str(output), "realisations": values}, indent=1)
    return text.encode() + b"\n"


def decode(data: bytes, output: OutputId) -> tuple[Realisation, ...]:
    """What `data` says of `output`; raises ValueError."""
    if len(data) > MAX_SIZE:
        raise ValueError(f"it has {len(data)} bytes, more than {MAX_SIZE}")
    try:
        value = json.loads(data)
        if value["format"] != FORMAT:
            raise ValueError(f"its format {str(value['format'])[:20]!r} is not known")
        if value["id"] != str(output):
            raise ValueError(f"it is about {str(value['id'])[:200]!r}")
        return tuple(_realisation(each, output) for each in _list(value["realisations"]))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is no list of realisations: {error!r}") from error


def merged(theirs: Iterable[Realisation], ours: Realisation) -> tuple[Realisation, ...]:
    """`theirs`, with `ours` added or its signatures merged. The keys of `ours` take back what they signed before."""
    names = {each.name for each in ours.signatures}
    found: list[Realisation] = []
    for each in theirs:
        if each.statement() == ours.statement():
            ours = ours.with_signatures(each.signatures)
        elif left := tuple(signature for signature in each.signatures if signature.name not in names):
            found.append(replace(each, signatures=left))
    return (*found[-(_MOST - 1) :], ours)


def _value(each: Realisation) -> dict[str, Any]:
    return {
        "path": each.object.path.base,
        "narHash": each.object.nar_hash.sri,
        "narSize": each.object.nar_size,
        "inputs": [str(one) for one in each.inputs],
        "executor": each.executor,
        "purity": each.purity,
        "signatures": [str(one) for one in each.signatures],
    }


def _realisation(value: Mapping[str, Any], output: OutputId) -> Realisation:
    path, nar_hash, nar_size = (
        StorePath.parse(value["path"]),
        Sha256.parse(value["narHash"]),
        value["narSize"],
    )
    if path.base != value["path"] or path != StorePath.of_content(path.name, nar_hash):
        raise ValueError(f"{path} is not the path of an object with the NAR hash {nar_hash.sri}")
    if not isinstance(nar_size, int) or isinstance(nar_size, bool) or nar_size <= 0:
        raise ValueError(f"{str(nar_size)[:20]!r} is no number of bytes")
    if value["purity"] not in PURITIES or not _EXECUTOR.fullmatch(value["executor"]):
        raise ValueError("its purity or its executor is not known")
    return Realisation(
        id=output,
        object=ObjectInfo(path, nar_hash, nar_size),
        inputs=tuple(OutputId.parse(each) for each in _list(value["inputs"])),
        origin="substituted",
        executor=value["executor"],
        purity=value["purity"],
        signatures=tuple(Signature.parse(each) for each in _list(value["signatures"])),
    )


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{str(value)[:50]!r} is no list")
    return value
