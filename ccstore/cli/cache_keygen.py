"""`ccstore cache keygen`: a pair of keys."""

from __future__ import annotations

from pathlib import Path

import click

from ccstore.cli.context import json_option, print_json
from ccstore.codec.keyfile import write_pair
from ccstore.codec.signing import SecretKey
from ccstore.errors import CcError


@click.command("keygen")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def command(name: str, file: Path, as_json: bool) -> None:
    """Make a pair of Ed25519 keys called NAME: the secret one in FILE, the public one in FILE.pub, and print that.

    NAME is by habit the cache's host and a number. The secret key signs what is pushed: keep it from others. The
    public one goes into the configuration of whoever shall trust it (`caches:`, and `trusted-public-keys` of Nix).

    \b
    ccstore cache keygen cache.example.org-1 ~/.config/ccstore/cache.key
    """
    try:
        key = SecretKey.generate(name)
    except ValueError as error:
        raise CcError("name-invalid", str(error), hint="for example cache.example.org-1") from error
    public_file = write_pair(key, file)
    if as_json:
        print_json(
            {"name": name, "public": str(key.public), "file": str(file), "publicFile": str(public_file)}
        )
    else:
        click.echo(str(key.public))
