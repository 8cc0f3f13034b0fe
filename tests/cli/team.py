"""Machines that share what they make through one cache."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tests.conftest import Shell, write


class Team:
    """One project, a cache, and any number of stores: each a machine of its own."""

    def __init__(self, top: Path, url: str) -> None:
        self.top, self.url = top, url
        self.project = top / "project"
        content = write(top / "file.txt", "shared\n")
        digest = hashlib.sha256(content.read_bytes()).hexdigest()
        write(self.project / "recipes/data.yml", f"kind: url\nurl: [file://{content}]\nsha256: {digest}\n")
        write(self.project / "recipes/ccstore.yml", "project: team\n")
        self.key = self.machine("keys").run("cache", "keygen", "team-1", str(top / "key")).stdout.strip()
        self.trust(self.key)

    def machine(self, name: str) -> Shell:
        self.project.mkdir(parents=True, exist_ok=True)
        environment = {"XDG_CONFIG_HOME": str(self.top / "config"), "no_proxy": "127.0.0.1"}
        return Shell(self.project, self.top / name, environment)

    def caches(self, *keys: str, more: str = "") -> str:
        """The cache with its keys, for a configuration; `more` is another line of it."""
        return f"caches:\n  - url: {self.url}\n    keys: {json.dumps(list(keys))}\n{more}"

    def trust(self, *keys: str, more: str = "") -> None:
        write(self.project / "recipes/ccstore.yml", f"project: team\n{self.caches(*keys, more=more)}")

    def move(self, url: str) -> None:
        """From now on the cache is asked at `url`."""
        self.url = url
        self.trust(self.key)

    def pushed(self) -> str:
        """Realises on one machine and pushes; the logical store path."""
        builder = self.machine("builder")
        [path] = builder.realize("data")
        builder.run("cache", "push", "data", "--key", str(self.top / "key"))
        (self.top / "file.txt").unlink()  # from now on only the cache has it
        return f"/nix/store/{path.name}"
