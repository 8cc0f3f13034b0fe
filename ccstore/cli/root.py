"""`ccstore root`: what the garbage collector keeps."""

from __future__ import annotations

import click

from ccstore.cli.context import json_option, open_store, open_workspace, print_json, store_option


@click.group("root")
def command() -> None:
    """Add, list and remove GC roots: the names of what `ccstore gc` keeps.

    `realize` makes a root for each of its targets, named <project>/<TARGET>.

    \b
    ccstore root list
    ccstore root remove guest/kernel
    """


@command.command("add")
@click.argument("target")
@click.argument("name", required=False)
@store_option
def add(target: str, name: str | None, store: str | None) -> None:
    """Keep TARGET, as it is now, under NAME (default: <project>/<TARGET>).

    \b
    ccstore root add kernel release/kernel-6.1
    """
    with open_workspace(store) as work:
        realisation = work.require_realised(target)
        work.store.roots.add(name or work.root_name(target), realisation.object.path, realisation.id)


@command.command("list")
@json_option
@store_option
def list_roots(as_json: bool, store: str | None) -> None:
    """List the roots, each with the store path that it keeps.

    \b
    ccstore root list
    ccstore root list --json
    """
    with open_store(store) as opened:
        roots = opened.roots.list()
        if as_json:
            print_json(
                [
                    {
                        "name": root.name,
                        "path": str(opened.objects.path(root.path)),
                        "realisation": str(root.realisation) if root.realisation else None,
                        "created": root.created,
                    }
                    for root in roots
                ]
            )
            return
        for root in roots:
            click.echo(f"{root.name}  {opened.objects.path(root.path)}")


@command.command("remove")
@click.argument("names", metavar="NAME…", nargs=-1, required=True)
@store_option
def remove(names: tuple[str, ...], store: str | None) -> None:
    """Remove roots; the objects go with the next `ccstore gc`.

    \b
    ccstore root remove guest/kernel guest/kernel-debug
    """
    with open_store(store) as opened:
        for name in names:
            opened.roots.remove(name)
