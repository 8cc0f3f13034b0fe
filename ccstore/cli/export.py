"""`ccstore export`: carries an object out of the store, to Docker, to a registry, into files; or its documents."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from ccstore.build.workspace import Options, Workspace
from ccstore.cli import documents
from ccstore.cli.console import progress
from ccstore.cli.context import json_option, open_workspace, print_json, store_option, target_argument
from ccstore.codec.oci import Reference
from ccstore.errors import CcError
from ccstore.events import Sink
from ccstore.export.archive import image_archive, tree_archive, write
from ccstore.export.image import Image, names
from ccstore.export.place import new, write_layout, write_tree

IMAGE_FORMATS = ("docker", "oci", "oci-archive", "registry")
FILE_FORMATS = ("oci", "oci-archive", "tar", "directory")
STREAMED = ("oci-archive", "tar")


@click.command("export")
@target_argument
@click.option(
    "--to",
    "form",
    type=click.Choice(["docker", "oci", "oci-archive", "registry", "tar", "directory"]),
    help="Where to, or in which form.",
)
@click.option(
    "--provenance", is_flag=True, help="Write what TARGET was made of, as an in-toto statement (SLSA)."
)
@click.option("--sbom", is_flag=True, help="Write what TARGET consists of, as an SPDX document.")
@click.option("--verify", "document", metavar="FILE", help="Check a signed document of TARGET.")
@click.option(
    "--key", metavar="FILE", help="The secret key to sign a document with; the public one to verify it."
)
@click.option("--output", "-o", metavar="PATH", help="The new file or folder; - is stdout, for an archive.")
@click.option("--tag", "tags", metavar="NAME[:TAG]", multiple=True, help="A name for the image.")
@click.option("--insecure", is_flag=True, help="Allow plain http to a registry elsewhere.")
@json_option
@store_option
def command(
    target: str,
    form: str | None,
    provenance: bool,
    sbom: bool,
    document: str | None,
    key: str | None,
    output: str | None,
    tags: tuple[str, ...],
    insecure: bool,
    as_json: bool,
    store: str | None,
) -> None:
    """Export TARGET as an image (docker, oci, oci-archive, registry), as it is (tar, directory), or its documents.

    The image of a kernel or a guest is its step `oci`, which is built if need be. Its digest is printed, and is the
    same wherever it was built. In a --tag, {version}, {series} (6.1.x) and {hash} stand for the image's own; a name
    without a tag gets NAME:{version}-{hash} and NAME:{series}.

    \b
    ccstore export kernel --to docker --tag linuxkit/kernel-clear-containers:{version}-{hash}
    ccstore export kernel --to registry --tag localhost:5000/guest/kernel
    ccstore export clear-containers --to oci-archive --output guest.tar
    ccstore export kernel^dev --to directory --output ./kernel-dev

    A document is the same for everybody who builds the same. With --key, a statement is signed in its envelope
    (DSSE), and the signature of an SPDX document lies beside it in FILE.sig. Without, the key is that of `cache
    push`, if there is one, and --verify trusts the keys of the configured caches.

    \b
    ccstore export kernel --provenance --key cache.key --output kernel.intoto.jsonl
    ccstore export kernel --sbom --key cache.key --output kernel.spdx.json
    ccstore export kernel --verify kernel.intoto.jsonl --key cache.key.pub
    """
    wanted = {"--to": form, "--provenance": provenance, "--sbom": sbom, "--verify": document}
    _check_one([name for name, value in wanted.items() if value])
    if form:
        _check(form, output, tags, key, as_json)
        with open_workspace(store) as work, progress() as sink:
            value = _export(work, target, form, output, tags, sink, insecure=insecure)
        if as_json:
            print_json(value)
        elif output != "-":
            click.echo(value.get("digest") or value["output"])
        return
    _check_document(output, tags, verify=bool(document), as_json=as_json)
    with open_workspace(store) as work, progress() as sink:
        if document:
            documents.verify(work, target, document, key, as_json=as_json)
        else:
            documents.write(work, target, "provenance" if provenance else "sbom", output, key, sink)


def _export(
    work: Workspace,
    target: str,
    form: str,
    output: str | None,
    tags: tuple[str, ...],
    sink: Sink,
    *,
    insecure: bool,
) -> dict[str, Any]:
    """Carries the object out; what `--json` says of that."""
    if form not in IMAGE_FORMATS:
        return {"output": _files(work, target, form, str(output), sink)}
    image, given = _image(work, target, tags, sink)
    _carry(image, given, form, output, sink, insecure=insecure)
    return {"digest": image.digest, "names": [str(each) for each in given]}


def _check_one(given: list[str]) -> None:
    if len(given) != 1:
        raise _usage(
            f"{' and '.join(given) or 'nothing'} to do: give one of --to, --provenance, --sbom, --verify"
        )


def _check_document(output: str | None, tags: tuple[str, ...], *, verify: bool, as_json: bool) -> None:
    if tags:
        raise _usage("documents have no names: --tag is for images")
    if verify and output:
        raise _usage("--verify has no --output")
    if not verify and as_json:
        raise _usage("documents are JSON already: --json is for what else is printed")


def _usage(problem: str) -> CcError:
    return CcError("usage", problem, hint="`ccstore export --help` shows the usage")


def _check(form: str, output: str | None, tags: tuple[str, ...], key: str | None, as_json: bool) -> None:
    """Raises `usage` for options that do not go together."""
    problem = ""
    if form in FILE_FORMATS and not output:
        problem = f"--to {form} needs --output"
    elif form not in FILE_FORMATS and output:
        problem = f"--to {form} has no --output"
    elif output == "-" and (form not in STREAMED or as_json):
        problem = f"only {' and '.join(STREAMED)} go to stdout, and nothing with them"
    elif form == "registry" and not tags:
        problem = "--to registry needs --tag REGISTRY/NAME[:TAG]"
    elif key:
        problem = "--key is for documents: --provenance, --sbom, --verify"
    elif form not in IMAGE_FORMATS and tags:
        problem = f"--to {form} has no names: --tag is for images"
    if problem:
        raise _usage(problem)


def _image(work: Workspace, target: str, tags: tuple[str, ...], sink: Sink) -> tuple[Image, list[Reference]]:
    """The image that `target` means, realised, and the names that it gets."""
    step = f"{target}.oci"
    means_step = step in work.graph.steps or step in work.graph.aliases
    image = Image.read(_realized(work, step if means_step else target, sink), target)
    return image, names(image, target.partition(".")[0].partition("^")[0], tags)


def _realized(work: Workspace, target: str, sink: Sink) -> Path:
    [realisation] = work.realize([target], sink=sink, options=Options()).values()
    return work.store.objects.path(realisation.object.path)


def _carry(
    image: Image, given: list[Reference], form: str, output: str | None, sink: Sink, *, insecure: bool
) -> None:
    if form == "docker":
        from ccstore.export.engine import load

        load(image, given, sink, os.environ)
    elif form == "registry":
        from ccstore.export.registry import push

        push(image, given, sink, insecure=insecure)
    elif form == "oci":
        with new(Path(str(output))) as folder:
            write_layout(image, given, folder)
    elif output == "-":
        write(image_archive(image, given), sys.stdout.buffer)
    else:
        with new(Path(str(output))) as path, path.open("wb") as file:
            write(image_archive(image, given), file)


def _files(work: Workspace, target: str, form: str, output: str, sink: Sink) -> str:
    """Writes the object as it is; where to."""
    [realisation] = work.realize([target], sink=sink, options=Options()).values()
    tree = work.store.objects.tree(realisation.object.path)
    name = realisation.object.path.name
    if form == "directory":
        with new(Path(output)) as folder:
            write_tree(tree, folder)
    elif output == "-":
        write(tree_archive(tree, name), sys.stdout.buffer)
    else:
        with new(Path(output)) as path, path.open("wb") as file:
            write(tree_archive(tree, name), file)
    return output
