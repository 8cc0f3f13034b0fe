"""Derivations: one build step with every input fixed, and the bytes that identify it (DESIGN, rules 2 and 3).

Inputs are named by the SHA-256 of their NAR, so how an input was made never enters. What may differ between two
runs without changing the output (URLs, time-outs, job counts, where a file lies) is not here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from ccstore.model import bencode
from ccstore.model.hashes import Sha256

PLATFORM = "x86_64-linux"
# raised whenever the sandbox changes in a way that an output could notice
SANDBOX_POLICY = 1
BUILTIN = "builtin:"
# raised whenever `builtin:debian-tree` would make another tree of the same packages
DEBIAN_TREE_REVISION = 1

# what the SHA-256 is of: the file, the NAR, or an OCI image (its manifest, its index, or the config of an image in a
# Docker daemon); ccstore.codec.oci says which layout each of them stands for
Method = Literal["flat", "nar", "oci"]


@dataclass(frozen=True, slots=True)
class FixedOutput:
    """A derivation whose output is known beforehand: a download, or a local file as it is now."""

    name: str
    method: Method
    sha256: Sha256

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("out",)

    def encode(self) -> bytes:
        return bencode.encode(
            {"type": "ccstore-fixed-1", "name": self.name, "method": self.method, "sha256": self.sha256.hex}
        )

    @property
    def id(self) -> str:
        return hashlib.sha256(self.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Derivation:
    """A build: `argv` runs in the sandbox with `root` as `/` and each input at `/in/<name>`.

    `files` are texts of the builder, readable at `/in/.builder/<name>`. Each output appears at
    `/out/<output>`; one named in `overlays` starts out as a writable view of that input. A builder whose
    argv begins with `builtin:` is ccstore's own code, has no root, and `policy` is that code's revision.
    """

    name: str
    argv: tuple[str, ...]
    root: Sha256 | None = None
    inputs: Mapping[str, Sha256] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("out",)
    overlays: Mapping[str, str] = field(default_factory=dict)
    platform: str = PLATFORM
    policy: int = SANDBOX_POLICY

    def encode(self) -> bytes:
        return bencode.encode(
            {
                "type": "ccstore-derivation-1",
                "name": self.name,
                "argv": self.argv,
                "root": self.root.hex if self.root else "",
                "inputs": {name: digest.hex for name, digest in self.inputs.items()},
                "files": self.files,
                "env": self.env,
                "outputs": sorted(self.outputs),
                "overlays": self.overlays,
                "platform": self.platform,
                "policy": self.policy,
            }
        )

    @property
    def id(self) -> str:
        return hashlib.sha256(self.encode()).hexdigest()

    def object_name(self, output: str) -> str:
        return self.name if output == "out" else f"{self.name}-{output}"


AnyDerivation = Derivation | FixedOutput


def decode(data: bytes) -> AnyDerivation:
    """The derivation that `data` encodes (the content of a file in `drvs/`); raises ValueError."""
    value = bencode.decode(data)
    if not isinstance(value, Mapping):
        raise ValueError("a derivation is a dictionary")
    try:
        result = _build(value) if value["type"] == "ccstore-derivation-1" else _fixed(value)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a derivation: {error!r}") from error
    if result.encode() != data:
        raise ValueError("not the canonical bytes of a derivation")
    return result


def _fixed(value: Mapping[str, bencode.Value]) -> FixedOutput:
    if value["type"] != "ccstore-fixed-1":
        raise ValueError(f"unknown type of derivation: {value['type']!r}")
    methods: tuple[Method, ...] = get_args(Method)
    found = [method for method in methods if method == value["method"]]
    if not found:
        raise ValueError(f"unknown method of a fixed output: {value['method']!r}")
    return FixedOutput(str(value["name"]), found[0], Sha256.parse(str(value["sha256"])))


def _build(value: Mapping[str, bencode.Value]) -> Derivation:
    def texts(key: str) -> dict[str, str]:
        found = value[key]
        if not isinstance(found, Mapping):
            raise TypeError(f"{key} is no dictionary")
        return {name: str(text) for name, text in found.items()}

    def words(key: str) -> tuple[str, ...]:
        found = value[key]
        if isinstance(found, (int, str, Mapping)):
            raise TypeError(f"{key} is no list")
        return tuple(str(word) for word in found)

    return Derivation(
        name=str(value["name"]),
        argv=words("argv"),
        root=Sha256.parse(str(value["root"])) if value["root"] else None,
        inputs={name: Sha256.parse(text) for name, text in texts("inputs").items()},
        files=texts("files"),
        env=texts("env"),
        outputs=words("outputs"),
        overlays=texts("overlays"),
        platform=str(value["platform"]),
        policy=int(str(value["policy"])),
    )
