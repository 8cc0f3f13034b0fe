"""One call for every kind of download."""

from __future__ import annotations

from pathlib import Path

from ccstore.errors import CcError
from ccstore.events import Sink
from ccstore.fetch.git import fetch_git
from ccstore.fetch.mirrors import Mirrors
from ccstore.fetch.oci import fetch_oci
from ccstore.fetch.url import fetch_url
from ccstore.model.graph import Fetch, OciSource, UrlSource
from ccstore.ports import Cancel


def fetch(
    step: Fetch, to: Path, *, mirrors: Mirrors, partials: Path, scratch: Path, sink: Sink, cancel: Cancel
) -> None:
    """Puts what `step` downloads at `to`, which does not exist yet.

    A URL's content and an image's have been checked against the step's hash. A git tree's has not: its NAR hash
    is taken when it is registered. Unfinished downloads are kept in `partials` under the derivation's id, so the
    caller holds that derivation's lock; `scratch` is an existing folder of the caller's, emptied by it afterwards.
    Raises what `fetch_url`, `fetch_git` and `fetch_oci` raise, with the recipe's place.
    """
    try:
        if isinstance(step.source, UrlSource):
            partial = partials / step.fixed.id
            fetch_url(step.source, step.fixed, to, mirrors, step.name, sink, cancel, partial=partial)
        elif isinstance(step.source, OciSource):
            fetch_oci(step.source, step.fixed, to, partials, scratch, step.name, sink, cancel)
        else:
            fetch_git(step.source, step.fixed, to, scratch, step.name, sink, cancel)
    except CcError as error:
        error.where = error.where or step.where or None
        raise
