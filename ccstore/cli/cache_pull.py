"""`ccstore cache pull`: gets what is asked for from a binary cache, or fails."""

from __future__ import annotations

import click

from ccstore.build.caches import chosen
from ccstore.build.pulling import pull
from ccstore.cache.sources import Sources
from ccstore.cli.console import progress
from ccstore.cli.context import json_option, print_json, store_option
from ccstore.cli.sharing import Shared, shared
from ccstore.errors import CcError
from ccstore.events import Sink
from ccstore.model.storepath import StorePath
from ccstore.ports import Cancel


@click.command("pull")
@click.argument("targets", metavar="TARGET|STORE-PATH…", nargs=-1, required=True)
@click.option("--from", "url", metavar="URL", help="The cache (default: all that are configured).")
@json_option
@store_option
def command(targets: tuple[str, ...], url: str | None, as_json: bool, store: str | None) -> None:
    """Get TARGET from the configured caches and print its store path; build nothing.

    A TARGET has to be signed by a key that is trusted in the configuration, and becomes a GC root. A store path says
    itself what it has to contain, so anybody's cache may have it, that of Nix too.

    \b
    ccstore cache pull kernel
    ccstore cache pull /nix/store/i9pmrzmpshapij2kin22pff6fc2adavx-hello.txt --from https://cache.example.org
    """
    cancel = Cancel()
    with shared(targets, store) as found, progress() as sink:
        paths = _pulled(found, url, sink, cancel) if found.targets else []
        if found.paths:
            # an object is known by its name, whoever gives it: no key is wanted, and no configuration for a URL
            with Sources([found.at(url)] if url else found.caches, sink, cancel) as sources:
                pull(found.store, sources, found.paths, sink, cancel)
            paths += found.paths
        lines = [str(found.store.objects.path(path)) for path in paths]
    if as_json:
        values = zip(paths, lines, strict=True)
        print_json([{"path": line, "storePath": path.logical} for path, line in values])
    else:
        click.echo("\n".join(lines))


def _pulled(found: Shared, url: str | None, sink: Sink, cancel: Cancel) -> list[StorePath]:
    """The objects of the targets."""
    from ccstore.build.workspace import Options

    assert found.work, "targets have a project"
    if not chosen(found.caches, url, None):
        raise no_caches()
    options = Options(cache=url, build=False)
    got = found.work.realize(found.targets, sink=sink, options=options, cancel=cancel)
    return [got[ref].object.path for ref in found.work.find(found.targets)]


def no_caches() -> CcError:
    return CcError(
        "usage",
        "no cache is configured",
        hint="name one under `caches:` in recipes/ccstore.yml or ~/.config/ccstore/config.yml, or with --from URL",
    )
