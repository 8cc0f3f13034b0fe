"""Where a store object comes from: values that provenance and bill of materials are written from.

Nothing here depends on the store that they were taken from, nor on when: two stores that hold the same give the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ccstore.model.derivation import Derivation
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import OutputId

# how something was used: to build with, as a part of the result, or to make the result of
Role = Literal["tool", "part", "source"]
Kind = Literal["package", "file", "git", "image", "local"]


@dataclass(frozen=True, slots=True)
class Material:
    """What was not made here: a Debian package, a downloaded file, a commit, an image, a file of the project.

    `urls` are as the recipe has them, `mirror://…` among them; `commit` is git's. `sha256` is that of the file, or of
    the image's manifest; a commit and a folder have none.
    """

    key: str
    kind: Kind
    name: str
    nar_hash: Sha256
    sha256: Sha256 | None = None
    version: str = ""
    urls: tuple[str, ...] = ()
    commit: str = ""
    purl: str = ""


@dataclass(frozen=True, slots=True)
class Product:
    """One output of a build step."""

    key: str
    name: str
    id: OutputId
    object: ObjectInfo
    executor: str
    purity: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Use:
    """`user` was made with, or from, `used`, or has it in it; both are keys."""

    user: str
    used: str
    role: Role


@dataclass(frozen=True, slots=True)
class File:
    """A file of the object that it is all about. `path` is relative, "" for the object itself; digests in hex."""

    path: str
    sha256: str
    sha1: str


@dataclass(frozen=True, slots=True)
class Origins:
    """`materials` and `products` come in the order of the build, the target last. `recipes` are what people wrote, by
    name; `files` is empty for an object with too many of them. `epoch` is what the build took for the time."""

    target: str
    product: Product
    derivation: Derivation
    recipes: Mapping[str, Any]
    materials: tuple[Material, ...]
    products: tuple[Product, ...]
    uses: tuple[Use, ...]
    files: tuple[File, ...]
    epoch: int
