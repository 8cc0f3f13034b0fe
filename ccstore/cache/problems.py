"""What can be wrong with a cache, in words that a user can act on."""

from __future__ import annotations

from ccstore.errors import CcError

# a cache that fails like this does not have what was asked for; any other error is this host's or the user's
MISSES = frozenset(
    {
        *("not-found", "unreachable", "auth-needed", "not-a-cache", "cache-invalid", "signature-invalid"),
        *("remote-failed", "remote-unfit"),
        *("nar-invalid", "hash-mismatch", "output-invalid", "name-invalid"),
    }
)
# the whole cache is of no use for the rest of the run
HOPELESS = frozenset({"unreachable", "auth-needed", "not-a-cache", "remote-failed", "remote-unfit"})
# what says nothing against the part of a file that has come
KEPT = frozenset({"interrupted", "disk-full", "read-only-store", "store-busy"})


def absent(url: str, name: str) -> CcError:
    return CcError(
        "not-found",
        f"{name} is not there any more",
        where=url,
        hint="`ccstore cache push --force` puts it there again",
    )


def invalid(url: str, name: str, problem: str) -> CcError:
    return CcError(
        "cache-invalid",
        f"{name} is not what it should be: {problem}",
        where=url,
        hint="`ccstore cache push --force` replaces it, by whoever may write to that cache",
    )
