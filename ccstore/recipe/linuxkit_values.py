"""The types of LinuxKit's fields: texts in small notations, checked where they are written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from ccstore.builders import guest_words as words
from ccstore.recipe.values import TARGET, Base, LocalFile, Text

_TARGET = re.compile(TARGET)
NAME = r"[A-Za-z0-9][\w.-]{0,62}"


def _text(title: str, check: Callable[[str], object], *, schema: Any = "string") -> Any:
    """Text that `check` accepts, and that stays as it is."""

    def checked(value: str) -> str:
        check(value)
        return value

    return Annotated[str, AfterValidator(checked), WithJsonSchema({"title": title, "type": schema})]


def _matching(pattern: str, wanted: str) -> Callable[[str], object]:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> None:
        if not compiled.fullmatch(value):
            raise ValueError(f"should be {wanted}, not {value!r}")

    return check


@dataclass(frozen=True, slots=True)
class ProjectFile(LocalFile):
    """A file that has to lie in the project, even if the recipe spells out another place."""


def _project_file(value: Any, info: ValidationInfo) -> ProjectFile:
    if not isinstance(value, str) or not value:
        raise ValueError(f"should be a path, not {value!r}")
    if not isinstance(info.context, Base):
        raise TypeError("paths are validated with a Base as context")
    if value.startswith("~"):  # LinuxKit's word for the home folder of whoever builds
        return ProjectFile(Path(value), value, False)
    path = Path(os.path.normpath(info.context.folder / value))
    label = value if value.startswith("/") else os.path.relpath(path, info.context.root)
    return ProjectFile(path, label, False)


def target_of(image: str) -> str | None:
    """The target that `image:` names. A word that could be either is one: an OCI image needs its digest."""
    return image if _TARGET.fullmatch(image) else None


def _device_mode(text: str) -> int:
    return words.mode(text, 0o777)


def _capability_list(value: list[str]) -> list[str]:
    words.capabilities(value)
    return value


def _identity(value: Any) -> int | str:
    if not isinstance(value, (str, int)):
        raise ValueError("should be a number or a name")
    return words.identity(value)


def size_of(value: Any) -> int:
    if isinstance(value, int):
        return value
    if not isinstance(value, str):
        raise ValueError("should be a size such as 6MB (10^6) or 2MiB (2^20)")
    return words.size(value)


ContainerName = _text("name", _matching(NAME, "a name (letters, digits and . _ -, at most 63)"))
VolumeName = _text("name", _matching(r"[a-z0-9_-]{1,63}", "a volume's name (a-z, 0-9, _ and -)"))
ImageName = _text("image", _matching(r"[^\s]+", "a target, or the name of an image"))
Capabilities = Annotated[
    list[Annotated[str, WithJsonSchema({"title": "capability", "type": "string"})]],
    AfterValidator(_capability_list),
]
Bind = _text("bind", words.bind)
Tmpfs = _text("tmpfs", words.tmpfs)
Limit = _text("limit", words.rlimit)
Environment = _text("NAME=value", words.environment)
GuestPath = _text("absolute path", words.absolute)
InRoot = _text("path", words.inside)
Namespace = _text("namespace", words.namespace)
NetNamespace = _text("namespace", lambda word: words.namespace(word, ("host", "root", "new", "none")))
Mode = _text("octal mode", words.mode, schema=["string", "integer"])
DeviceMode = _text("octal mode", _device_mode, schema=["string", "integer"])
DeviceNode = _text("device", words.device)
Identity = Annotated[
    int | str, PlainValidator(_identity), WithJsonSchema({"title": "id", "type": ["integer", "string"]})
]
Size = Annotated[
    int, PlainValidator(size_of), WithJsonSchema({"title": "size", "type": ["string", "integer"]})
]
Number = Annotated[int, WithJsonSchema({"title": "whole number", "type": "integer"})]
Positive = Annotated[
    int, Field(ge=0), WithJsonSchema({"title": "whole number", "type": "integer", "minimum": 0})
]
SourceFile = Annotated[
    ProjectFile,
    PlainValidator(_project_file),
    WithJsonSchema({"title": "file of the project", "type": "string"}),
]
Memory = _text("memory", _matching(r"[1-9][0-9]{0,5}[MG]", "an amount such as 256M or 2G"))
Words = list[Text]
