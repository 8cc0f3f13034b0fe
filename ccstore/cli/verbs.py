"""A group of verbs, each in a module of its own."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import click

from ccstore.errors import CcError


class Verbs(click.Group):
    """Imports a verb's module when the verb is used: most commands need few of them.

    `verbs` are in the order of the help text; each is the command of the module `prefix` and its name.
    """

    def __init__(self, *args: Any, verbs: Sequence[str] = (), prefix: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._verbs = list(verbs)
        self._prefix = prefix

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self._verbs

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._verbs:
            return None
        module = importlib.import_module(f"ccstore.cli.{self._prefix}{cmd_name.replace('-', '_')}")
        return module.command if isinstance(module.command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self._verbs:
            raise self._unknown(args[0], ctx.command_path)
        return super().resolve_command(ctx, args)

    def _unknown(self, name: str, group: str) -> CcError:
        import difflib

        close = difflib.get_close_matches(name, self._verbs)
        hint = f"did you mean {' or '.join(close)}?" if close else f"`{group} --help` shows the commands"
        return CcError("usage", f"there is no command {name!r}", hint=hint)
