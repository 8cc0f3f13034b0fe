"""`ccstore cache`: binary caches and the keys that make them trusted."""

from __future__ import annotations

import importlib

import click

# in the order of the help text; each is a command of the module cache_<name>
VERBS = ("keygen", "push", "pull", "info")


class Verbs(click.Group):
    """Imports a verb's module when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(f"ccstore.cli.cache_{cmd_name}").command
        return command if isinstance(command, click.Command) else None


@click.group("cache", cls=Verbs)
def command() -> None:
    """Share builds through a binary cache in Nix's format.

    \b
    ccstore cache push kernel --to file:///srv/cache --key cache.key
    ccstore cache pull kernel
    """
