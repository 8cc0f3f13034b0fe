"""`ccstore gc --explain`: what keeps an object alive, in words and as JSON."""

from __future__ import annotations

from dataclasses import asdict

import click

from ccstore.cli.context import open_store, open_workspace, print_json
from ccstore.cli.terminal import shown
from ccstore.model.storepath import StorePath
from ccstore.store.explain import Keeper, keepers
from ccstore.store.store import Store


def explain(text: str, store: str | None, *, as_json: bool) -> None:
    """Prints what keeps the object that `text` means: a path of it, or a target as it is realised now."""
    with open_store(store) as opened:
        path = opened.objects.named(text) or _realised(text, store)
        found = keepers(opened, path)
        if as_json:
            print_json({"path": path.logical, "keptBy": [_value(opened, each) for each in found]})
            return
        for each in found:
            for line in _lines(opened, each):
                click.echo(shown(line))
    if not found:
        click.echo(f"nothing keeps {path}: the next `ccstore gc` deletes it", err=True)


def _realised(target: str, store: str | None) -> StorePath:
    with open_workspace(store) as work:
        return work.require_realised(target).object.path


def _lines(store: Store, keeper: Keeper) -> list[str]:
    if keeper.root is None:
        return [f"session of {keeper.process or 'a process that does not say who it is'}"]
    lines = [f"root {keeper.root.name}"]
    for depth, fact in enumerate(keeper.chain):
        lead = "  " if depth == 0 else "  made from "
        lines.append(f"{lead}{store.layout.objects / fact.base}  (realisation {fact.id})")
    if len(keeper.chain) > 1:
        lines.append("  an input: `ccstore gc --no-keep-inputs` lets it go")
    return lines


def _value(store: Store, keeper: Keeper) -> dict[str, object]:
    if keeper.root is None:
        return {"session": keeper.session, "process": asdict(keeper.process) if keeper.process else None}
    return {
        "root": keeper.root.name,
        "chain": [
            {"realisation": str(fact.id), "path": str(store.layout.objects / fact.base)}
            for fact in keeper.chain
        ],
        "input": len(keeper.chain) > 1,
    }
