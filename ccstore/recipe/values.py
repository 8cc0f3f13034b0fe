"""The types of recipe fields: what may be written, what it becomes, and how the JSON Schema says it.

Documents hold text only (see `document`), so each type here reads text. A type's `title` is what the recipe
reference calls it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from ccstore.model.hashes import Sha256

NAME = r"[a-z0-9][a-z0-9-]*"
TARGET = rf"{NAME}(?:\.[a-z0-9][a-z0-9.+-]*)?(?:\^{NAME})?"
_DURATION = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9})s)?")
_URL = r"(?:https?|file)://[^\s]+|mirror://[a-z0-9][a-z0-9-]*/[^\s]+"
_GIT_URL = r"(?:https?|ssh|git|file)://[^\s]+|[A-Za-z0-9_][\w.-]*@[\w.-]+:[^\s]+"


class Model(BaseModel):
    """Keys are written with dashes; a key that is not known is an error."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: name.replace("_", "-"),
        arbitrary_types_allowed=True,
        defer_build=True,  # a project uses some kinds only
    )


@dataclass(frozen=True, slots=True)
class Base:
    """What relative paths start from: the folder of the file that names them."""

    folder: Path
    root: Path


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A path that a recipe names: absolute, and `label`, relative to the project, for people."""

    path: Path
    label: str
    folder_allowed: bool


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"should be text, not {kind_of(value)}")
    return value


def kind_of(value: Any) -> str:
    """What a person calls the shape of a value."""
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list) else repr(value)


def _flag(value: Any) -> bool:
    if value in ("true", "false", True, False):
        return value in ("true", True)
    raise ValueError(f"should be true or false, not {kind_of(value)}")


def _sha256(value: Any) -> Sha256:
    if isinstance(value, Sha256):
        return value
    try:
        return Sha256.parse(_text(value))
    except ValueError as error:
        raise ValueError(
            f"should be a SHA-256 (64 hex digits, or sha256-<base64>), not {kind_of(value)}"
        ) from error


def _duration(value: Any) -> float:
    if isinstance(value, float):
        return value
    match = _DURATION.fullmatch(_text(value))
    seconds = 0
    if match:
        hours, minutes, rest = (int(part or 0) for part in match.groups())
        seconds = hours * 3600 + minutes * 60 + rest
    if not seconds:
        raise ValueError(f"should be a time such as 45s, 90m, 3h or 1h30m, not {value!r}")
    return float(seconds)


def _matching(pattern: str, wanted: str) -> Any:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"should be {wanted}, not {value!r}")
        return value

    return check


def one_or_many(value: Any) -> Any:
    """One value stands for a list of it."""
    return [value] if isinstance(value, (str, dict)) else value


def inner_path(value: str) -> str:
    """`value`, if it stays below where it starts; raises ValueError."""
    parts = value.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\n" in value:
        raise ValueError(f"should be a path without '.', '..' or a leading or double '/', not {value!r}")
    return value


def _base(info: ValidationInfo) -> Base:
    if not isinstance(info.context, Base):
        raise TypeError("paths are validated with a Base as context")
    return info.context


def local_file(value: Any, info: ValidationInfo, *, folder_allowed: bool) -> LocalFile:
    """The file that a recipe means by `value`; `info` has a Base as context. Raises ValueError."""
    text = _text(value)
    if not text:
        raise ValueError("should be a path, not ''")
    base = _base(info)
    path = Path(os.path.normpath(base.folder / text))
    return LocalFile(path, os.path.relpath(path, base.root), folder_allowed)


def _file(value: Any, info: ValidationInfo) -> LocalFile:
    return local_file(value, info, folder_allowed=False)


def _file_or_folder(value: Any, info: ValidationInfo) -> LocalFile:
    return local_file(value, info, folder_allowed=True)


def _schema(title: str, **rest: Any) -> WithJsonSchema:
    return WithJsonSchema({"title": title, **rest})


def _settable(name: str) -> str:
    if name == "HOME":
        raise ValueError("HOME is /build, where a script starts, and cannot be set")
    return name


# text that editors may take for a number or a truth value
Text = Annotated[str, _schema("text", type=["string", "number", "boolean"])]
Flag = Annotated[bool, BeforeValidator(_flag), _schema("true or false", type="boolean")]
Count = Annotated[int, Field(gt=0), _schema("whole number", type="integer", exclusiveMinimum=0)]
Epoch = Annotated[int, Field(ge=0, le=2**40), _schema("seconds", type="integer", minimum=0)]
Hash = Annotated[
    Sha256,
    PlainValidator(_sha256),
    _schema("SHA-256", type="string", pattern="^(sha256[:-])?[0-9A-Za-z+/=]{43,64}$"),
]
Duration = Annotated[
    float,
    PlainValidator(_duration),
    _schema("duration", type="string", pattern="^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"),
]
Url = Annotated[
    str,
    AfterValidator(_matching(_URL, "an http(s)://, file:// or mirror://NAME/ URL")),
    _schema("URL", type="string", pattern="^(https?|file|mirror)://"),
]
GitUrl = Annotated[
    str,
    AfterValidator(_matching(_GIT_URL, "a git URL (https://, ssh://, git://, file://, user@host:path)")),
    _schema("git URL", type="string"),
]
Commit = Annotated[
    str,
    AfterValidator(_matching(r"[0-9a-f]{40}", "a commit (40 lower-case hex digits)")),
    _schema("commit", type="string", pattern="^[0-9a-f]{40}$"),
]
GitRef = Annotated[
    str,
    AfterValidator(_matching(r"(?!.*(?:\.\.|//|@\{))\w[\w./+@-]*(?<![./])", "the name of a branch or tag")),
    _schema("branch or tag", type="string"),
]
Target = Annotated[
    str,
    AfterValidator(_matching(TARGET, "recipe, recipe.step or recipe^output")),
    _schema("target", type="string"),
]
RecipeName = Annotated[
    str,
    AfterValidator(_matching(NAME, "a recipe's name (a-z, 0-9 and -)")),
    _schema("recipe", type="string", pattern=f"^{NAME}$"),
]
OutputName = Annotated[
    str,
    AfterValidator(_matching(NAME, "an output's name (a-z, 0-9 and -)")),
    _schema("output", type="string", pattern=f"^{NAME}$"),
]
InputName = Annotated[
    str,
    AfterValidator(
        _matching(
            r"[A-Za-z0-9][\w.+-]{0,99}", "an input's name (letters, digits and . _ + -; '.builder' is taken)"
        )
    ),
]
EnvName = Annotated[
    str,
    AfterValidator(_matching(r"[A-Za-z_][A-Za-z0-9_]*", "an environment variable's name")),
    AfterValidator(_settable),
]
PackageName = Annotated[
    str,
    AfterValidator(_matching(r"[a-z0-9][a-z0-9+.-]+", "a Debian package's name")),
    _schema("package", type="string"),
]
InnerPath = Annotated[str, AfterValidator(inner_path), _schema("path inside", type="string")]
OneLine = Annotated[
    str, AfterValidator(_matching(r"[^\n\r]+", "one line of text")), _schema("text", type="string")
]
FilePath = Annotated[LocalFile, PlainValidator(_file), _schema("file", type="string")]
AnyPath = Annotated[LocalFile, PlainValidator(_file_or_folder), _schema("file or folder", type="string")]
Urls = Annotated[
    list[Url],
    BeforeValidator(one_or_many),
    Field(min_length=1),
    _schema("URL, or a list", anyOf=[{"type": "string"}, {"type": "array", "items": {"type": "string"}}]),
]
