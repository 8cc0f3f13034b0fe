"""`ccstore cache push`: puts what is realised into a binary cache."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ccstore.build.caches import signing_key
from ccstore.build.sharing import PushOptions, push
from ccstore.cache.pack import Packing
from ccstore.cli.console import progress
from ccstore.cli.context import json_option, print_json, size, store_option
from ccstore.cli.sharing import shared
from ccstore.errors import CcError

LEVELS = {"zstd": range(1, 20), "xz": range(10), "none": range(0)}


@click.command("push")
@click.argument("targets", metavar="TARGET|STORE-PATH…", nargs=-1, required=True)
@click.option("--to", "url", metavar="URL", help="The cache (default: the one that is configured).")
@click.option("--key", metavar="FILE", type=click.Path(path_type=Path), help="The secret key that signs.")
@click.option("--inputs", is_flag=True, help="The objects behind TARGET too, as far as they are here.")
@click.option("--compression", type=click.Choice(["zstd", "xz", "none"]), default="zstd", show_default=True)
@click.option("--level", type=int, metavar="N", help="zstd: 1 to 19 (default: 3); xz: 0 to 9 (default: 6).")
@click.option("--force", is_flag=True, help="Send again what is there already.")
@json_option
@store_option
def command(
    targets: tuple[str, ...],
    url: str | None,
    key: Path | None,
    inputs: bool,
    compression: str,
    level: int | None,
    force: bool,
    as_json: bool,
    store: str | None,
) -> None:
    """Push the realised TARGET to a binary cache, with the signed realisations of all behind it.

    What is there already is not sent again, so an interrupted push goes on where it was. The key is that of --key, of
    CCSTORE_SIGNING_KEY, or `signing-key` in ~/.config/ccstore/config.yml.

    \b
    ccstore cache push kernel --to file:///srv/cache --key cache.key
    ccstore cache push kernel toolchain --to https://cache.example.org
    ccstore cache push kernel --inputs --level 10
    """
    if level is not None and level not in LEVELS[compression]:
        raise CcError(
            "usage", f"{compression} has no level {level}", hint="`ccstore cache push --help` shows them"
        )
    with shared(targets, store) as found, progress() as sink:
        secret = signing_key(key, os.environ, lambda: found.user)
        cache = found.only_cache(url)
        pushed = push(
            found.store,
            cache.url,
            secret,
            found.realised(),
            found.paths,
            options=PushOptions(inputs, force, Packing(compression, level)),
            sink=sink,
            service=cache.service,
        )
        paths = {each.info.path: str(found.store.objects.path(each.info.path)) for each in pushed}
    if as_json:
        print_json(
            [
                {"path": paths[each.info.path], "storePath": each.info.path.logical, "state": each.state}
                | {"fileSize": each.size, "narSize": each.info.nar_size}
                for each in pushed
            ]
        )
        return
    for each in pushed:
        click.echo(paths[each.info.path])
    sent = [each.size for each in pushed if each.state == "sent"]
    click.echo(f"{len(sent)} of {len(pushed)} objects sent, {size(sum(sent))}", err=True)
