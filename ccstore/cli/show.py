"""`ccstore show`: derivations as JSON, and sizes."""

from __future__ import annotations

import click

from ccstore.build.resolve import Resolved
from ccstore.build.workspace import Workspace
from ccstore.cli.context import json_option, open_workspace, print_json, store_option, target_argument
from ccstore.cli.realize import as_value
from ccstore.cli.sizes import lines, sizes_of
from ccstore.model.derivation import Derivation, FixedOutput
from ccstore.model.graph import Build, Fetch, OciSource, UrlSource


@click.command("show")
@target_argument
@click.option("--recursive", "-r", is_flag=True, help="With every step behind it, inputs first.")
@click.option("--sizes", is_flag=True, help="What takes the room in the realised TARGET, by component.")
@json_option
@store_option
def command(target: str, recursive: bool, sizes: bool, as_json: bool, store: str | None) -> None:
    """Print TARGET's derivation as JSON: what identifies it, its inputs and what it gave.

    A derivation is null while the content of an input is not known yet. `reproduced` counts the checks of an output
    that gave the same bytes, `differed` those that did not. With --sizes, print a table (or JSON) of what
    takes the room in the realised TARGET instead.

    \b
    ccstore show kernel.config
    ccstore show -r kernel | jq -r '.[].id'
    ccstore show clear-containers --sizes
    """
    if sizes and recursive:
        raise click.UsageError("--sizes looks at TARGET alone: leave --recursive out")
    with open_workspace(store) as work:
        if sizes:
            found = sizes_of(work, target)
            if as_json:
                print_json(found)
            else:
                click.echo("\n".join(lines(found)))
            return
        ref = work.graph.find(target)
        resolved = work.resolve([ref])
        chosen = list(resolved.values()) if recursive else [resolved[ref.step]]
        print_json([_value(work, each) for each in chosen])


def _value(work: Workspace, here: Resolved) -> dict[str, object]:
    return {
        "step": here.step.name,
        "recipe": here.step.where or None,
        "id": here.derivation.id if here.derivation else None,
        "derivation": _derivation(here),
        "source": _source(here),
        "inputs": {name: f"{ref.step}^{ref.output}" for name, ref in here.step.inputs.items()}
        if isinstance(here.step, Build)
        else {},
        "outputs": {
            output: as_value(work, f"{here.step.name}^{output}", realisation)
            | {
                "present": work.store.objects.has(realisation.object.path),
                "reproduced": work.store.checks.reproduced(realisation),
                "differed": work.store.checks.differed(realisation),
            }
            for output, realisation in here.outputs.items()
        },
    }


def _derivation(here: Resolved) -> dict[str, object] | None:
    derivation = here.derivation
    if isinstance(derivation, FixedOutput):
        return {"name": derivation.name, "method": derivation.method, "sha256": derivation.sha256.sri}
    if not isinstance(derivation, Derivation):
        return None
    return {
        "name": derivation.name,
        "platform": derivation.platform,
        "policy": derivation.policy,
        "argv": list(derivation.argv),
        "root": derivation.root.sri if derivation.root else None,
        "inputs": {name: digest.sri for name, digest in derivation.inputs.items()},
        "env": dict(derivation.env),
        "files": dict(derivation.files),
        "outputs": list(derivation.outputs),
        "overlays": dict(derivation.overlays),
    }


def _source(here: Resolved) -> dict[str, object] | None:
    if not isinstance(here.step, Fetch):
        return None
    source = here.step.source
    if isinstance(source, UrlSource):
        return {"urls": list(source.urls), "size": source.size}
    if isinstance(source, OciSource):
        return {"image": source.reference}
    return {"git": source.url, "commit": source.commit, "paths": list(source.paths)}
