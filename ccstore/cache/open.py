"""Which kind of cache a URL means."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ccstore.codec.rechannel import Remote
from ccstore.errors import CcError
from ccstore.ports import BinaryCache, Cancel

SERVICE = re.compile(r"(?P<service>grpcs?://[^\s?#/]+|unix:/[^\s?#]+)(/(?P<instance>[^\s?#]*))?")

_URLS = "file:///folder, http://…, https://…, and of a service grpc://HOST:PORT, grpcs://… and unix:/PATH are"


def open_cache(url: str, cancel: Cancel, service: Remote | None = None) -> BinaryCache:
    """The cache at `url`; nothing is asked of it yet. Raises `usage` for a URL that cannot be one.

    `service` is the one that is configured for remote execution: a cache in it is spoken to in the same way.
    """
    if found := SERVICE.fullmatch(url):
        from ccstore.cache.remote import RemoteCache

        instance = found["instance"] or ""
        if service and service.url == found["service"]:
            return RemoteCache(replace(service, instance=instance or service.instance), cancel)
        return RemoteCache(Remote(found["service"], instance), cancel)
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment:
        from ccstore.cache.web import WebCache  # TLS takes a while to load

        return WebCache(url, cancel)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        from ccstore.cache.folder import FolderCache

        return FolderCache(Path(unquote(parts.path)))
    raise CcError(
        "usage",
        f"{url!r} is no cache's URL",
        hint=_URLS,
    )
