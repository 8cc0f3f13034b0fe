"""The kinds of recipe: one pydantic model each, in a union discriminated by `kind`.

What is said here is what people read: docstrings and descriptions become the recipe reference of the README,
types become the JSON Schema (`ccstore schema`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ccstore.recipe import parts
from ccstore.recipe.base import RecipeBase
from ccstore.recipe.document import Loc
from ccstore.recipe.guest import GuestRecipe
from ccstore.recipe.parts import ConfigBase, Part, Patches
from ccstore.recipe.values import (
    AnyPath,
    Commit,
    Count,
    Duration,
    EnvName,
    Epoch,
    FilePath,
    Flag,
    GitRef,
    GitUrl,
    Hash,
    InnerPath,
    InputName,
    Model,
    OneLine,
    OutputName,
    PackageName,
    RecipeName,
    Target,
    Text,
    Urls,
)

EPOCH = "`SOURCE_DATE_EPOCH` in the build, in seconds since 1970."


class Download(Model):
    """A file from the network, known by its hash."""

    url: Urls = Field(
        description="Where the file can be had, in order of preference; `mirror://NAME/path` asks a mirror.",
        examples=["mirror://debian/pool/main/l/linux/linux_6.1.176.orig.tar.xz"],
    )
    sha256: Hash = Field(
        description="SHA-256 of the file.",
        examples=["9aad4025973feea3f0d978e82ab7db97d8d5ce3f59fcc6b1f316153d66e3a504"],
    )
    size: Count | None = Field(
        default=None, description="Its size in bytes: a longer answer is cut off.", examples=[137945728]
    )
    stall_timeout: Duration = Field(
        default=30.0,
        description="How long a server may send nothing.",
        examples=["45s"],
        json_schema_extra={"default": "30s"},
    )


class UrlRecipe(RecipeBase, Download):
    """A file from the network, known by its hash."""

    kind: Literal["url"]
    executable: Flag = Field(default=False, description="Mark the file as executable.", examples=["true"])


class GitRecipe(RecipeBase):
    """A commit of a git repository, or some paths of it, known by the hash of what is checked out."""

    kind: Literal["git"]
    url: GitUrl = Field(
        description="The repository; git's own `url.<base>.insteadOf` rules apply.",
        examples=["https://github.com/hyperhq/hyperstart"],
    )
    commit: Commit = Field(
        description="The commit, in full.", examples=["c0c07d218b482dd07f9068b52a6e7468ae4172ac"]
    )
    follow: GitRef | None = Field(
        default=None,
        description="A branch or tag: `ccstore lock` moves `commit` and `sha256` to where it is now.",
        examples=["master"],
    )
    paths: list[InnerPath] = Field(
        default=[],
        description="Files and folders to take; everything if empty.",
        examples=[["src", "LICENSE"]],
    )
    sha256: Hash = Field(
        description="NAR hash of the checked-out tree without `.git` (`ccstore hash`).",
        examples=["sha256-ngnUrML5VBoi+N8G5PGvR7Jg/ULPDAVzKDAL+/mZeII="],
    )


class PathRecipe(RecipeBase):
    """A file or folder of the project, taken by content."""

    kind: Literal["path"]
    path: AnyPath = Field(description="Relative to this file.", examples=["../guest/init"])


class DebianRecipe(RecipeBase):
    """A root tree made of pinned Debian packages, for example a toolchain. No maintainer script is run."""

    kind: Literal["debian"]
    suite: OneLine = Field(description="The Debian suite that the packages come from.", examples=["bookworm"])
    lock: FilePath = Field(
        description="The lock file, written by `ccstore lock`: every package of the closure with its hash.",
        examples=["../kernel/pins/toolchain.yml"],
    )
    packages: list[PackageName] = Field(
        min_length=1,
        description="The packages asked for; the lock adds what they need.",
        examples=[["gcc", "make"]],
    )
    links: dict[InnerPath, OneLine] = Field(
        default={},
        description="Symbolic links to make, path in the tree to target: the alternatives that a build needs.",
        examples=[{"usr/bin/sh": "bash"}],
    )
    exclude: list[OneLine] = Field(
        default=[],
        description="Globs of paths in the tree to leave out.",
        examples=[["usr/share/doc/*", "usr/share/man/*"]],
    )


class Config(Model):
    """A kernel configuration: a base, then fragments in order. Every symbol asked for is verified."""

    base: ConfigBase = Field(
        default="tinyconfig",
        validate_default=True,
        description="A config target of the kernel's make (a word that ends in `config`), or a file, which may be "
        "one of a target; symbols of a base may get lost.",
        examples=["x86_64_defconfig", {"from": "linuxkit", "path": "kernel/6.12.x/config-x86_64"}],
    )
    fragments: list[Part] = Field(
        default=[],
        max_length=100,
        description="Config fragments, of the project or of a target; a later one wins.",
        examples=[
            ["../kernel/config/virtio.config", {"from": "linuxkit", "path": "kernel/6.12.x/config-x86_64"}]
        ],
    )
    add: list[Part] = Field(
        default=[], max_length=100, description="With `extends`: fragments to add to the other recipe's."
    )
    drop: list[Part] = Field(
        default=[], max_length=100, description="With `extends`: fragments of the other recipe to leave out."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Config:
        if "fragments" in self.model_fields_set and (self.add or self.drop):
            raise ValueError("give either `fragments`, or `add` and `drop`")
        return self


class KernelRecipe(RecipeBase):
    """A Linux kernel. Steps: `source`, `tree`, `patched`, `config`; outputs: `out` and `dev`.

    `out` has vmlinux, bzImage, System.map, config and kernel-source-info (and modules, if asked for), `dev` what
    external modules are built against. With `extends` every field that is not given is the other recipe's.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": ["extends"]}, {"required": ["version", "toolchain", "source", "config"]}]
        }
    )

    kind: Literal["kernel"]
    extends: RecipeName | None = Field(
        default=None, description="The kernel recipe that this one is a variant of.", examples=["kernel"]
    )
    version: Text = Field(
        default="", description="What `make kernelversion` says of the source.", examples=["6.1.176"]
    )
    toolchain: Target = Field(
        default="", description="What to build with: a root tree with the tools.", examples=["toolchain"]
    )
    source: Download | None = Field(default=None, description="The tarball of the source.")
    patches: Patches = Field(
        default=[],
        description="Patches, or folders of them, applied in order: of the project, of a target (`path` in a git "
        "repository or an archive), in a folder in the order of its `series` file or of their names. A patch that "
        "is in the tree already is an error, or left out with `skip-applied`.",
        examples=[
            "../kernel/patches-6.1",
            [{"from": "linuxkit", "path": "kernel/6.6.x/patches", "skip-applied": True}],
        ],
    )
    config: Config = Field(default_factory=Config, description="The configuration.")
    modules: Flag = Field(default=False, description="Build and install modules too.", examples=["true"])
    localversion: Text = Field(default="", description="Appended to the version.", examples=["-guest"])
    source_date_epoch: Epoch = Field(default=1, description=EPOCH)
    timeout: Duration | None = Field(
        default=None, description="How long each step may take; no limit if not given.", examples=["3h"]
    )

    def uses(self) -> Iterator[tuple[Loc, str]]:
        if self.toolchain:
            yield ("toolchain",), self.toolchain
        yield from parts.uses(self.patches, ("patches",))
        if self.config.base.from_:
            yield ("config", "base", "from"), self.config.base.from_
        yield from parts.uses(self.config.fragments, ("config", "fragments"))
        yield from parts.uses(self.config.add, ("config", "add"))


class BuildInput(Model):
    """A target, or a file or folder (`path: ../guest/init`)."""

    target: Target | None = None
    path: AnyPath | None = None

    @model_validator(mode="before")
    @classmethod
    def _target(cls, value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {"path"}:
                return value
            raise ValueError(
                f"should be a target or {{path: …}}, not a mapping of {', '.join(value) or 'nothing'}"
            )
        return {"target": value}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        path = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
        return {
            "title": "target, or {path: file or folder}",
            "anyOf": [{"type": "string"}, {**path, "additionalProperties": False}],
        }


class BuildRecipe(RecipeBase):
    """A script that is run by bash in the sandbox: inputs at `/in/<name>`, outputs at `/out/<name>`."""

    kind: Literal["build"]
    toolchain: Target = Field(
        description="What to build with: a root tree with the tools.", examples=["toolchain"]
    )
    inputs: dict[InputName, BuildInput] = Field(
        default={},
        description="What the script sees, by name: a target, or a file or folder of the project.",
        examples=[{"linux": "kernel^dev", "init": {"path": "../guest/init.c"}}],
    )
    script: str = Field(
        description="Run as `bash -eu`; each output is made at `/out/<name>`. For parallel makes: "
        '`MAKEFLAGS="$CCSTORE_MAKEFLAGS" make`.',
        examples=["cc -o /out/out /in/init"],
    )
    env: dict[EnvName, Text] = Field(
        default={}, description="Environment of the script.", examples=[{"CFLAGS": "-Os"}]
    )
    outputs: list[OutputName] = Field(
        default=["out"], min_length=1, description="What the script makes.", examples=[["out", "dev"]]
    )
    overlays: dict[OutputName, InputName] = Field(
        default={},
        description="Outputs that start as a writable view of an input, which is faster than a copy.",
        examples=[{"out": "tree"}],
    )
    source_date_epoch: Epoch = Field(default=1, description=EPOCH)
    timeout: Duration | None = Field(
        default=None, description="How long the script may run; no limit if not given.", examples=["90m"]
    )

    def uses(self) -> Iterator[tuple[Loc, str]]:
        yield ("toolchain",), self.toolchain
        for name, given in self.inputs.items():
            if given.target:
                yield ("inputs", name), given.target

    @model_validator(mode="after")
    def _consistent(self) -> BuildRecipe:
        if len(set(self.outputs)) != len(self.outputs):
            raise ValueError("`outputs` names an output twice")
        for output, name in self.overlays.items():
            if output not in self.outputs or name not in self.inputs:
                raise ValueError(
                    f"`overlays` wants an output and an input of this recipe, not {output}: {name}"
                )
        taken = [name for name in self.env if name.startswith("CCSTORE_")]
        if taken:
            raise ValueError(f"CCSTORE_… is the sandbox's to set, not {taken[0]} in `env`")
        if "SOURCE_DATE_EPOCH" in self.env:
            raise ValueError("SOURCE_DATE_EPOCH is set by `source-date-epoch`, not in `env`")
        return self


Spec = UrlRecipe | GitRecipe | PathRecipe | DebianRecipe | KernelRecipe | BuildRecipe | GuestRecipe
AnyRecipe = Annotated[Spec, Field(discriminator="kind")]
KINDS: dict[str, type[Spec]] = {
    "url": UrlRecipe,
    "git": GitRecipe,
    "path": PathRecipe,
    "debian": DebianRecipe,
    "kernel": KernelRecipe,
    "build": BuildRecipe,
    "guest": GuestRecipe,
}
