"""Configuration: of a project (`recipes/ccstore.yml`) and of a person (`$XDG_CONFIG_HOME/ccstore/config.yml`).

Nothing here enters a derivation: it says where things come from and how builds are run, not what is built.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ccstore.codec.signing import PublicKey
from ccstore.recipe.values import NAME, Count, Flag, Model, Target, Urls

_SERVICE_URL = r"grpcs?://[^\s?#/][^\s?#]*|unix:/[^\s?#]+"
_CACHE_URL = rf"https?://[^\s?#/][^\s?#]*|file:///[^\s?#]+|{_SERVICE_URL}"
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


def _cache_url(value: str) -> str:
    if not re.fullmatch(_CACHE_URL, value):
        raise ValueError(
            f"should be an http, https or file URL of a folder, or the URL of a service, not {value!r}"
        )
    return value.rstrip("/")


def _public_key(value: str) -> str:
    try:
        PublicKey.parse(value)
    except ValueError as error:
        raise ValueError(f"should be a public key, <name>:<44 characters>: {error}") from error
    return value


class CacheConfig(Model):
    """A binary cache that builds may come from."""

    url: Annotated[str, AfterValidator(_cache_url)] = Field(
        description="Where it is: an http, https or file URL, or that of a service for remote execution.",
        examples=["https://cache.example.org"],
    )
    keys: list[Annotated[str, AfterValidator(_public_key)]] = Field(
        default=[],
        description="The public keys that are trusted there, as `ccstore cache keygen` prints them.",
        examples=[["cache.example.org-1:D+o533jqqLIqrS20F7hp0eUtPkuyxSqnUWAdsaWMdeQ="]],
    )
    priority: Count | None = Field(
        default=None,
        description="The lowest is asked first; what the cache says of itself, else 50, if not given.",
        examples=[10],
    )
    trusted: bool = Field(
        default=False,
        description="Believe what it says unsigned, too: of a service where all who can write are trusted.",
    )

    @model_validator(mode="after")
    def _only_services(self) -> Self:
        if self.trusted and not re.fullmatch(_SERVICE_URL, self.url):
            raise ValueError("only a service for remote execution can be `trusted`: others have `keys`")
        return self


class RemoteSettings(Model):
    """A service that speaks the Remote Execution API."""

    url: str = Field(
        description="Where it is: grpc://HOST:PORT, grpcs://HOST:PORT (TLS) or unix:/PATH.",
        examples=["grpcs://cluster.example.org:443"],
    )
    instance: str = Field(default="", description="The service's instance name.")
    headers: dict[str, str] = Field(default={}, description="Headers of every call.")
    token: str | None = Field(
        default=None, description="A file with a token, sent as `authorization: Bearer …`."
    )
    ca: str | None = Field(
        default=None, description="Certificates to trust, a PEM file; the system's by default."
    )
    cert: str | None = Field(
        default=None, description="Our certificate, a PEM file, where the service asks for one."
    )
    key: str | None = Field(default=None, description="The key of `cert`, a PEM file.")
    image: str = Field(
        default="",
        description="Property `container-image` of every action, for workers that run each in an image. Untested.",
        examples=["docker://registry.example.org/empty:1"],
    )


class Settings(Model):
    """What a project and a person can both configure; the project's word counts first."""

    mirrors: dict[
        Annotated[str, AfterValidator(_mirror_name)], Annotated[Urls, AfterValidator(_mirror_urls)]
    ] = Field(
        default={},
        description="What `mirror://NAME/…` stands for: a URL or several, tried in order.",
        examples=[{"debian": "https://mirror.example.org/debian"}],
    )
    caches: list[CacheConfig] = Field(
        default=[], description="Binary caches; those of the project and of the user are all asked."
    )
    executor: Literal["sandbox", "docker", "remote"] | None = Field(
        default=None, description="What runs builds: `sandbox` (default), `docker` or `remote`."
    )
    remote: RemoteSettings | None = Field(
        default=None, description="The service that `executor: remote` builds on."
    )
    jobs: Count | None = Field(default=None, description="How many builds run at once.", examples=[2])
    cores: Count | None = Field(
        default=None,
        description="How many processors all builds together use; in Docker and remotely, one build.",
        examples=[8],
    )
    assist: Flag | None = Field(
        default=None,
        description="Builds of kernels see a compile cache, as with `realize --assist`; never where CI is set.",
        examples=["true"],
    )

    recc: Target | None = Field(
        default=None,
        description="The root tree with recc, which hands compilations to `remote` for `realize --distribute`.",
        examples=["recc"],
    )


class ProjectConfig(Settings):
    """`recipes/ccstore.yml`: its folder's parent is the project. An empty file will do."""

    project: Annotated[str, AfterValidator(_project_id)] = Field(
        default="",
        description="The project's id, which begins the names of its GC roots; the folder's name by default.",
        examples=["guests"],
    )


class UserConfig(Settings):
    """`$XDG_CONFIG_HOME/ccstore/config.yml`."""

    signing_key: str | None = Field(
        default=None,
        description="The file with the secret key that signs what is pushed.",
        examples=["~/cache.key"],
    )


def project_id(folder: str) -> str:
    """The id of a project that does not give one: the folder's name in the letters that an id may have."""
    return re.sub(r"[^a-z0-9._-]+", "-", folder.lower()).strip("-._") or "project"
