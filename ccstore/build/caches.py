"""The caches, the keys that are trusted and the key that signs, as the project and the person configure them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ccstore.cache.open import SERVICE
from ccstore.cache.source import Source
from ccstore.codec.keyfile import read_secret
from ccstore.codec.rechannel import Remote
from ccstore.codec.signing import PublicKey, SecretKey
from ccstore.errors import CcError
from ccstore.recipe.userfile import user_file

if TYPE_CHECKING:  # what validates a configuration takes longer to load than a small push
    from ccstore.recipe.settings import Settings, UserConfig

KEY_VARIABLE = "CCSTORE_SIGNING_KEY"


def configured(*settings: Settings, service: Remote | None) -> list[Source]:
    """Every cache once; one that is configured twice has the keys of both and the first one's priority."""
    found: dict[str, Source] = {}
    for each in (cache for one in settings for cache in one.caches):
        keys = tuple(PublicKey.parse(key) for key in each.keys)
        before = found.get(each.url, Source(each.url))
        priority = each.priority if before.priority is None else before.priority
        believed = before.trusted or each.trusted
        keys = tuple(dict.fromkeys((*before.keys, *keys)))
        found[each.url] = Source(each.url, keys, priority, believed, service)
    return list(found.values())


def to_text(sources: list[Source]) -> str:
    """One line for the evaluation cache, which `remembered` reads.

    It is empty if one of them is in a service: what speaks to that may be secret.
    """
    if any(SERVICE.fullmatch(each.url) for each in sources):
        return ""
    return json.dumps([[each.url, list(map(str, each.keys)), each.priority] for each in sources])


def remembered(text: str) -> list[Source] | None:
    """The caches as they were configured when `to_text` wrote them down; None if it did not."""
    if not text:
        return None
    return [
        Source(url, tuple(map(PublicKey.parse, keys)), priority) for url, keys, priority in json.loads(text)
    ]


def trusted_keys(sources: Iterable[Source]) -> list[PublicKey]:
    """The keys of all caches."""
    return list(dict.fromkeys(key for source in sources for key in source.keys))


def chosen(sources: list[Source], url: str | None, service: Remote | None) -> list[Source]:
    """The configured caches; with `url` that one alone, which need not be configured, with the keys of all."""
    if url is None:
        return sources
    for source in sources:
        if source.url == url.rstrip("/"):
            return [source]
    return [Source(url.rstrip("/"), tuple(trusted_keys(sources)), service=service)]


def signing_key(given: Path | None, environ: Mapping[str, str], user: Callable[[], UserConfig]) -> SecretKey:
    """The secret key that signs: of a file that is given, or named by CCSTORE_SIGNING_KEY, or in the configuration of
    the `user`, which is asked last. Raises `key-missing`, and as `read_secret`."""
    if given is not None:
        return read_secret(given)
    if environ.get(KEY_VARIABLE):
        return read_secret(Path(environ[KEY_VARIABLE]))
    if named := user().signing_key:
        return read_secret(Path(user_file(environ) or "").parent / Path(named).expanduser())
    raise CcError(
        "key-missing",
        "there is no key to sign with",
        hint=f"give --key FILE, set {KEY_VARIABLE}, or name it as `signing-key` in the user's configuration; "
        "`ccstore cache keygen NAME FILE` makes one",
    )
