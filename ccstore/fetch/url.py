"""Downloads of flat files with a known hash.

Alternatives are tried in the recipe's order, each with its mirrors in theirs. One URL is tried again, with a
growing and randomly shortened pause, as long as its failures are transient; a missing file, a wrong hash and a
server that sends nothing lead to the next URL at once. What has arrived is kept between attempts, URLs and runs:
any mirror may continue it, because only the hash of the whole decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ccstore.errors import CcError
from ccstore.events import Noted, Sink, to_sink
from ccstore.fetch.mirrors import Mirrors
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import UrlSource
from ccstore.ports import Cancel
from ccstore.transfer.attempt import Line, Meter, TransferError, Wanted, open_client, redacted
from ccstore.transfer.download import Download
from ccstore.transfer.partial import Partial
from ccstore.transfer.patience import PATIENT, Patience

if TYPE_CHECKING:
    from ccstore.model.hashes import Sha256


@dataclass(frozen=True, slots=True)
class _Tried:
    url: str
    failure: TransferError


def fetch_url(
    source: UrlSource,
    fixed: FixedOutput,
    to: Path,
    mirrors: Mirrors,
    label: str,
    sink: Sink,
    cancel: Cancel,
    *,
    partial: Path,
    patience: Patience = PATIENT,
) -> None:
    """Puts the file with the hash of `fixed` at `to`, mode 0444 or 0555.

    `partial` is where unfinished content is kept (see ccstore.transfer.partial), best on the file system of `to`.
    Raises `hash-mismatch`, `fetch-stalled`, `fetch-too-large`, `unreachable` (with every URL and its reason),
    `mirror-unknown`, `disk-full`, `interrupted`.
    """
    if fixed.method != "flat":
        raise CcError(
            "recipe-invalid",
            f"{label}: a download is identified by the hash of its bytes (flat)",
            hint="give the SHA-256 of the file itself, as `sha256sum` prints it",
        )
    wanted = Wanted(fixed.sha256, source.size, patience.max_size)
    tried: list[_Tried] = []
    with Partial(partial, cancel) as content, Line(cancel) as line:
        if content.size and content.sha256 == fixed.sha256:
            content.move(to, source.executable)
            return
        if source.size is not None and content.size >= source.size:
            content.restart()
        with open_client(patience.connect_timeout, source.stall_timeout) as client:
            download = Download(
                client, content, wanted, Meter(to_sink(label, sink), patience.clock), line, patience
            )
            for url in _candidates(source, mirrors):
                failure = download.get(url)
                if failure is None:
                    content.move(to, source.executable)
                    return
                tried.append(_Tried(redacted(url), failure))
                sink(Noted(f"{redacted(url)}: {failure.reason}", label, warning=True))
    raise _verdict(label, fixed.sha256, tried)


def _candidates(source: UrlSource, mirrors: Mirrors) -> list[str]:
    """Every URL, once. Raises `mirror-unknown` when that leaves nothing to try."""
    found: dict[str, None] = {}
    unknown: CcError | None = None
    for url in source.urls:
        try:
            found.update(dict.fromkeys(mirrors.resolve(url)))
        except CcError as error:
            if error.code != "mirror-unknown":
                raise
            unknown = unknown or error
    if not found and unknown:
        raise unknown
    return list(found)


def _verdict(label: str, wanted: Sha256, tried: list[_Tried]) -> CcError:
    """The error that says what every URL answered."""
    reasons = tuple(f"{each.url}: {each.failure.reason}" for each in tried)
    for each in tried:
        if each.failure.kind == "mismatch":
            got = each.failure.got
            return CcError(
                "hash-mismatch",
                f"{label}: what {each.url} serves is not what the recipe pins ({each.failure.reason})",
                hint="check the recipe's sha256 and its source; `ccstore lock` pins Debian packages anew",
                details=(f"wanted {wanted.sri}", *((f"got    {got.sri}",) if got else ()), *reasons),
            )
    kinds = {each.failure.kind for each in tried}
    if kinds == {"stalled"}:
        return CcError(
            "fetch-stalled",
            f"{label}: no server sends anything any more",
            hint="try again (what has arrived is kept), name another mirror, or raise `stall-timeout`",
            details=reasons,
        )
    if "too-large" in kinds:
        return CcError(
            "fetch-too-large",
            f"{label}: the file is larger than a download may be",
            hint="declare its `size` in the recipe",
            details=reasons,
        )
    return CcError(
        "unreachable",
        f"{label}: none of {len(tried)} URLs gave the file",
        hint="check the network and the proxy, or add a mirror (CCSTORE_MIRROR_<NAME>) or an alternative URL",
        details=reasons,
    )
