"""`ccstore cache info`: what caches say of themselves, and of targets and store paths."""

from __future__ import annotations

from collections.abc import Iterator

import click

from ccstore.build.caches import chosen
from ccstore.cache import entries
from ccstore.cache.open import open_cache
from ccstore.cache.source import Source
from ccstore.cli.cache_pull import no_caches
from ccstore.cli.context import json_option, print_json, size, store_option
from ccstore.cli.sharing import Shared, shared
from ccstore.cli.terminal import shown
from ccstore.codec.narinfo import NarInfo
from ccstore.codec.signing import PublicKey
from ccstore.errors import CcError
from ccstore.model.signature import Signature
from ccstore.model.storepath import StorePath
from ccstore.ports import BinaryCache, Cancel


@click.command("info")
@click.argument("targets", metavar="[TARGET|STORE-PATH…]", nargs=-1)
@click.option("--from", "url", metavar="URL", help="The cache (default: all that are configured).")
@json_option
@store_option
def command(targets: tuple[str, ...], url: str | None, as_json: bool, store: str | None) -> None:
    """Say what the caches are, and what each of them holds of TARGET: sizes, who signed it, and whether that counts.

    \b
    ccstore cache info
    ccstore cache info kernel --from https://cache.example.org
    """
    with shared(targets, store) as found:
        sources = chosen(found.caches, url, found.at(url).service if url else None)
        if not sources:
            raise no_caches()
        paths = [*_known(found), *found.paths]
        values = [_cache(source, paths) for source in sources]
    if as_json:
        print_json(values)
        return
    for value in values:
        click.echo("\n".join(map(shown, _lines(value))))


def _known(found: Shared) -> Iterator[StorePath]:
    """The objects of the targets, as far as the store or a cache knows them."""
    if found.work is None:
        return
    for target in found.targets:
        [*_, planned] = found.work.plan([found.work.graph.find(target)])
        if planned.path is None:
            raise CcError(
                "not-found",
                f"neither the store nor a cache knows what {target} gives",
                hint=f"`ccstore realize {target}` makes it",
            )
        yield planned.path


def _cache(source: Source, paths: list[StorePath]) -> dict[str, object]:
    cache = open_cache(source.url, Cancel(), source.service)
    try:
        info = entries.require_cache(cache)
        return {
            "url": cache.url,
            "state": "ok",
            "storeDir": info.store,
            "priority": source.priority or info.priority or entries.DEFAULT_PRIORITY,
            "wantMassQuery": info.mass_query,
            "keys": [str(key) for key in source.keys],
            "trusted": source.trusted,
            "objects": [_object(cache, path, source.keys) for path in paths],
        }
    except CcError as error:
        return {"url": cache.url, "state": error.code, "message": error.message, "hint": error.hint}
    finally:
        cache.close()


def _object(cache: BinaryCache, path: StorePath, keys: tuple[PublicKey, ...]) -> dict[str, object]:
    found = entries.read_narinfo(cache, path)
    if found is None:
        return {"storePath": path.logical, "present": False}
    return {
        "storePath": path.logical,
        "present": found.file_size is None or cache.holds(found.url, found.file_size),
        "narHash": found.object.nar_hash.sri,
        "narSize": found.object.nar_size,
        "fileSize": found.file_size,
        "compression": found.compression,
        "signatures": {each.name: _verdict(each, found, keys) for each in found.signatures},
    }


def _verdict(signature: Signature, found: NarInfo, keys: tuple[PublicKey, ...]) -> str:
    named = [key for key in keys if key.name == signature.name]
    if not named:
        return "unknown key"
    return "trusted" if any(key.verifies(signature, found.fingerprint()) for key in named) else "false"


def _lines(value: dict[str, object]) -> Iterator[str]:
    if value["state"] != "ok":
        yield f"{value['url']}  {value['state']}: {value['message']}"
        return
    yield f"{value['url']}  store {value['storeDir']}, priority {value['priority']}"
    keys, objects = value["keys"], value["objects"]
    for key in keys if isinstance(keys, list) else ():
        yield f"  trusts {key}"
    for each in objects if isinstance(objects, list) else ():
        if not each["present"]:
            yield f"  {each['storePath']}  not there"
            continue
        signed = ", ".join(f"{name} ({how})" for name, how in each["signatures"].items()) or "nobody"
        packed = size(each["fileSize"] or 0)
        yield f"  {each['storePath']}  {packed} {each['compression']}, signed by {signed}"
