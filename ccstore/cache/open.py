"""Which kind of cache a URL means."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from ccstore.errors import CcError
from ccstore.ports import BinaryCache, Cancel


def open_cache(url: str, cancel: Cancel) -> BinaryCache:
    """The cache at `url`; nothing is asked of it yet. Raises `usage` for a URL that cannot be one."""
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
    raise CcError("usage", f"{url!r} is no cache's URL", hint="file:///folder, http://… and https://… are")
