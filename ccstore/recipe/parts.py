"""What a kernel takes from elsewhere: patches and config fragments.

../kernel/patches-6.1                       a file or folder of the project; the same as {path: …}
{from: fix}                                 a target, as it is
{from: linuxkit, path: kernel/6.6.x/config} a file or folder in a target
{from: linux-debian, path: patches}         in an archive, which is unpacked without its one top folder
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ccstore.recipe.document import Loc
from ccstore.recipe.values import (
    TARGET,
    Flag,
    InnerPath,
    LocalFile,
    Model,
    Target,
    inner_path,
    kind_of,
    local_file,
    one_or_many,
)

WHOLE = "."
MAKE_TARGET = re.compile(r"[A-Za-z0-9_-]*config")


def _path(value: Any, info: ValidationInfo) -> LocalFile | str:
    return _part(value, info, folder_allowed=False)


def _path_or_folder(value: Any, info: ValidationInfo) -> LocalFile | str:
    return _part(value, info, folder_allowed=True)


def _part(value: Any, info: ValidationInfo, *, folder_allowed: bool) -> LocalFile | str:
    if info.data.get("from_") is None:
        return local_file(value, info, folder_allowed=folder_allowed)
    if not isinstance(value, str):
        raise ValueError(f"should be text, not {kind_of(value)}")
    return value if value == WHOLE else inner_path(value)


class Part(Model):
    """A file: of the project, or, with `from`, of a target; without a `path` the target itself."""

    from_: Target | None = Field(default=None, alias="from")
    path: Annotated[LocalFile | str | None, PlainValidator(_path)] = None

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return cls._mapping(value)

    @classmethod
    def _mapping(cls, value: Any) -> Any:
        """A path alone stands for a mapping with that path."""
        if isinstance(value, str):
            return {"path": value}
        if not isinstance(value, dict):
            raise ValueError(f"should be a path or {{from: …, path: …}}, not {kind_of(value)}")
        if not {"from", "path"} & set(value):
            raise ValueError(f"should say `path`, `from` or both, not {', '.join(value) or 'nothing'}")
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return cls.shape()

    @classmethod
    def shape(cls) -> dict[str, Any]:
        """The JSON Schema: a path or a mapping."""
        text = {"type": "string"}
        known = {
            "from": {**text, "pattern": f"^{TARGET}$"},
            "path": text,
            "series": text,
            "skip-applied": {"type": "boolean"},
        }
        aliases = [str(field.alias) for field in cls.model_fields.values()]
        keys = {alias: known[alias] for alias in aliases if alias in known}
        mapping = {
            "type": "object",
            "properties": keys,
            "anyOf": [{"required": ["from"]}, {"required": ["path"]}],
            "additionalProperties": False,
        }
        return {"title": cls._title(), "anyOf": [text, mapping]}

    @classmethod
    def _title(cls) -> str:
        return "file, or {from: target, path: …}"

    @property
    def file(self) -> LocalFile | None:
        """The file or folder of the project, if it is one."""
        return self.path if isinstance(self.path, LocalFile) else None

    @property
    def label(self) -> str:
        """What a person calls it: `kernel/config/virtio.config`, `linuxkit:kernel/6.6.x/config-x86_64`."""
        if isinstance(self.path, LocalFile):
            return self.path.label
        return f"{self.from_}:{self.path}" if self.path not in (None, WHOLE) else str(self.from_)

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for two that are the same, wherever and however a recipe names them."""
        return (self.from_, self.file.path if self.file else self.path)

    @property
    def name(self) -> str:
        """Its last component, or the target's."""
        if isinstance(self.path, LocalFile):
            return self.path.path.name
        return str(self.from_) if self.path in (None, WHOLE) else str(self.path).rpartition("/")[2]


class ConfigBase(Part):
    """What a configuration starts from: a config target of make, or a file."""

    make: str = ""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if isinstance(value, dict) and "make" in value:
            raise ValueError("there is no key 'make': a config target is a word alone")
        is_target = isinstance(value, str) and MAKE_TARGET.fullmatch(value)
        return {"make": value} if is_target else cls._mapping(value)

    @classmethod
    def _title(cls) -> str:
        return "make target or file, or {from: target, path: …}"


class PatchPart(Part):
    """Patches: one, or a folder of them, applied in the order of its `series` file, else of their names."""

    path: Annotated[LocalFile | str | None, PlainValidator(_path_or_folder)] = None
    series: InnerPath | None = None
    skip_applied: Flag = False

    @classmethod
    def _title(cls) -> str:
        return "file or folder, {from: target, path: …, series: file, skip-applied: true}"


Patches = Annotated[
    list[PatchPart],
    BeforeValidator(one_or_many),
    Field(max_length=100),
    WithJsonSchema(
        {
            "title": f"{PatchPart.shape()['title']}, or a list",
            "anyOf": [*PatchPart.shape()["anyOf"], {"type": "array", "items": PatchPart.shape()}],
        }
    ),
]


def uses(parts: Sequence[Part], loc: Loc) -> Iterator[tuple[Loc, str]]:
    """The targets that `parts`, which stand at `loc`, are taken from."""
    for index, part in enumerate(parts):
        if part.from_:
            yield (*loc, index, "from"), part.from_
