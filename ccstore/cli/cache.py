"""`ccstore cache`: binary caches and the keys that make them trusted."""

from __future__ import annotations

import click

from ccstore.cli.verbs import Verbs


@click.group("cache", cls=Verbs, verbs=("keygen", "push", "pull", "info"), prefix="cache_")
def command() -> None:
    """Share builds through a binary cache in Nix's format.

    \b
    ccstore cache push kernel --to file:///srv/cache --key cache.key
    ccstore cache pull kernel
    """
