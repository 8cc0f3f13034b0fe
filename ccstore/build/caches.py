"""The caches, the keys that are trusted and the key that signs, as the project and the person configure them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ccstore.cache.sources import Source
from ccstore.codec.keyfile import read_secret
from ccstore.codec.signing import PublicKey, SecretKey
from ccstore.errors import CcError
from ccstore.recipe.project import UserConfig
from ccstore.recipe.settings import Settings

KEY_VARIABLE = "CCSTORE_SIGNING_KEY"


def configured(*settings: Settings) -> list[Source]:
    """Every cache once; one that is configured twice has the keys of both and the first one's priority."""
    found: dict[str, Source] = {}
    for each in (cache for one in settings for cache in one.caches):
        keys = tuple(PublicKey.parse(key) for key in each.keys)
        before = found.get(each.url, Source(each.url))
        priority = each.priority if before.priority is None else before.priority
        found[each.url] = Source(each.url, tuple(dict.fromkeys((*before.keys, *keys))), priority)
    return list(found.values())


def trusted_keys(sources: Iterable[Source]) -> list[PublicKey]:
    """The keys of all caches."""
    return list(dict.fromkeys(key for source in sources for key in source.keys))


def chosen(sources: list[Source], url: str | None) -> list[Source]:
    """The configured caches; with `url` that one alone, which need not be configured, with the keys of all."""
    if url is None:
        return sources
    for source in sources:
        if source.url == url.rstrip("/"):
            return [source]
    return [Source(url.rstrip("/"), tuple(trusted_keys(sources)))]


def signing_key(given: Path | None, environ: Mapping[str, str], user: UserConfig, folder: Path) -> SecretKey:
    """The secret key that signs: of a file that is given, or named by CCSTORE_SIGNING_KEY, or in the configuration of
    the person, whose file lies in `folder`. Raises `key-missing`, and as `read_secret`."""
    if given is not None:
        return read_secret(given)
    if environ.get(KEY_VARIABLE):
        return read_secret(Path(environ[KEY_VARIABLE]))
    if user.signing_key:
        return read_secret(folder / Path(user.signing_key).expanduser())
    raise CcError(
        "key-missing",
        "there is no key to sign with",
        hint=f"give --key FILE, set {KEY_VARIABLE}, or name it as `signing-key` in the user's configuration; "
        "`ccstore cache keygen NAME FILE` makes one",
    )
