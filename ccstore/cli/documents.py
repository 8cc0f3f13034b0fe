"""What `ccstore export` does with documents: `--provenance`, `--sbom` and `--verify`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ccstore.build import documents
from ccstore.build.caches import signing_key, trusted_keys
from ccstore.build.documents import SIGNATURE, Kind
from ccstore.build.workspace import Options, Workspace
from ccstore.cli.context import print_json
from ccstore.codec.keyfile import read_public
from ccstore.codec.signing import PublicKey, SecretKey
from ccstore.errors import CcError
from ccstore.events import Noted, Sink
from ccstore.export.place import new


def write(
    work: Workspace, target: str, kind: Kind, output: str | None, key_file: str | None, sink: Sink
) -> None:
    """Writes the document of `target`, which is built if need be, to a file or to stdout."""
    key = _secret(work, key_file)
    output = None if output == "-" else output
    if key_file and kind == "sbom" and not output:
        hint = f"the signature gets a file of its own, beside the document: give --output FILE for FILE{SIGNATURE}"
        raise CcError("usage", "a bill of materials on stdout cannot be signed", hint=hint)
    work.realize([target], sink=sink, options=Options())
    text = documents.write(work, target, kind)
    if kind == "sbom" and not output:
        key = None
    if key is None:
        sink(Noted("the document is not signed: --key FILE signs it, an SPDX document with --output", target))
    if output:
        _write_files(text, kind, Path(output), key)
        click.echo(output)
    else:
        sys.stdout.buffer.write(documents.enveloped(text, key) if key else text)


def _secret(work: Workspace, key_file: str | None) -> SecretKey | None:
    """The key that is given or configured, as `ccstore cache push` takes it; None if there is none."""
    try:
        return signing_key(Path(key_file) if key_file else None, os.environ, lambda: work.user)
    except CcError as error:
        if error.code != "key-missing":
            raise
        return None


def _write_files(text: bytes, kind: Kind, output: Path, key: SecretKey | None) -> None:
    if key and kind == "provenance":
        text = documents.enveloped(text, key)
    with new(output) as path:
        path.write_bytes(text)
        if key and kind == "sbom":
            with new(output.with_name(output.name + SIGNATURE)) as beside:
                beside.write_bytes(documents.detached(text, key))


def verify(work: Workspace, target: str, file: str, key_file: str | None, *, as_json: bool) -> None:
    """Checks a document of `target` that somebody signed, and says what was found."""
    keys = [read_public(Path(key_file))] if key_file else _trusted(work)
    document = _read(Path(file))
    beside = Path(file + SIGNATURE)
    signature = _read(beside) if beside.exists() else None
    found = documents.check(work, target, document, signature, keys)
    if as_json:
        value = {"kind": found.kind, "key": found.key, "storePath": found.path, "same": found.same}
        print_json({"file": file, **value})
        return
    click.echo(f"{file}: signed by {found.key}, about {found.path}")
    if found.same:
        click.echo("it says what this project and store say, to the letter")
    else:
        click.echo("it differs from what this project and this version of ccstore say of it", err=True)


def _trusted(work: Workspace) -> list[PublicKey]:
    """The keys of the caches that the project and the person have configured."""
    keys = trusted_keys(work.caches)
    if not keys:
        hint = "give --key FILE.pub, or configure a cache with its keys"
        raise CcError("usage", "--verify needs a public key that you trust", hint=hint)
    return keys


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror or error}"
        raise CcError("file-missing", message, hint="give a document that `ccstore export` wrote") from error
