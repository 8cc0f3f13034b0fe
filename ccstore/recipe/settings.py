"""Configuration: of a project (`recipes/ccstore.yml`) and of a person (`$XDG_CONFIG_HOME/ccstore/config.yml`).

Nothing here enters a derivation: it says where things come from and how builds are run, not what is built.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ccstore.recipe.values import NAME, Count, Model, Urls

_PROJECT_ID = re.compile(r"[a-z0-9][a-z0-9._-]*")


def _mirror_name(value: str) -> str:
    if not re.fullmatch(NAME, value):
        raise ValueError(f"should be a mirror's name (a-z, 0-9 and -), not {value!r}")
    return value


def _mirror_urls(value: list[str]) -> list[str]:
    for url in value:
        if url.startswith("mirror:"):
            raise ValueError(f"a mirror is a real URL, not {url!r}")
    return value


def _project_id(value: str) -> str:
    if not _PROJECT_ID.fullmatch(value):
        raise ValueError(f"should be lower-case letters, digits and . _ -, not {value!r}")
    return value


class Settings(Model):
    """What a project and a person can both configure; the project's word counts first."""

    mirrors: dict[
        Annotated[str, AfterValidator(_mirror_name)], Annotated[Urls, AfterValidator(_mirror_urls)]
    ] = Field(
        default={},
        description="What `mirror://NAME/…` stands for: a URL or several, tried in order.",
        examples=[{"debian": "https://mirror.example.org/debian"}],
    )
    executor: Literal["sandbox", "docker", "remote"] | None = Field(
        default=None, description="What runs builds: `sandbox` (default), `docker` or `remote`."
    )
    jobs: Count | None = Field(default=None, description="How many builds run at once.", examples=[2])
    cores: Count | None = Field(default=None, description="How many processors one build uses.", examples=[8])


class ProjectConfig(Settings):
    """`recipes/ccstore.yml`: its folder's parent is the project. An empty file will do."""

    project: Annotated[str, AfterValidator(_project_id)] = Field(
        default="",
        description="The project's id, which begins the names of its GC roots; the folder's name by default.",
        examples=["guests"],
    )


class UserConfig(Settings):
    """`$XDG_CONFIG_HOME/ccstore/config.yml`."""


def project_id(folder: str) -> str:
    """The id of a project that does not give one: the folder's name in the letters that an id may have."""
    return re.sub(r"[^a-z0-9._-]+", "-", folder.lower()).strip("-._") or "project"
