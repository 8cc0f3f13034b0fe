"""`ccstore hash`: the identity of a file or folder."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ccstore.codec.nar import nar_hash
from ccstore.errors import CcError
from ccstore.model.storepath import StorePath


@click.command("hash")
@click.argument("path", type=click.Path())
@click.option("--store-path", is_flag=True, help="Print the store path instead of the hash.")
@click.option("--name", metavar="N", help="The object's name (default: the file's own).")
def command(path: str, store_path: bool, name: str | None) -> None:
    """Print the SHA-256 of PATH's NAR in SRI form, as `nix hash path` does.

    \b
    ccstore hash kernel/patches-6.1
    ccstore hash --store-path --name kernel ./build
    """
    here = Path(path)
    try:
        digest, _ = nar_hash(here)
    except OSError as error:
        message = f"{os.fsdecode(error.filename or path)} cannot be read: {error.strerror}"
        raise CcError("file-missing", message, hint="give a file or folder that you may read") from error
    if not store_path:
        click.echo(digest.sri)
        return
    try:
        click.echo(StorePath.of_content(name or here.absolute().name, digest).logical)
    except ValueError as error:
        raise CcError("name-invalid", str(error), hint="--name gives another name") from error
