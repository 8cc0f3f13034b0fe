"""`ccstore cache keygen`, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

from ccstore.codec.keyfile import read_secret
from tests.cli.conftest import code
from tests.conftest import Shell


def test_keygen_prints_the_public_key(tmp_path: Path) -> None:
    shell = Shell(tmp_path, tmp_path / "store")
    printed = shell.run("cache", "keygen", "cache.example.org-1", "cache.key").stdout
    assert printed == (tmp_path / "cache.key.pub").read_text() + "\n"
    assert str(read_secret(tmp_path / "cache.key").public) == printed.strip()
    value = json.loads(shell.run("cache", "keygen", "other-1", "other.key", "--json").stdout)
    assert value["public"] == (tmp_path / value["publicFile"]).read_text()


def test_keygen_refuses(tmp_path: Path) -> None:
    shell = Shell(tmp_path, tmp_path / "store")
    shell.run("cache", "keygen", "x-1", "key")
    before = (tmp_path / "key").read_text()
    assert code(shell.run("cache", "keygen", "x-1", "key", status=2).stderr) == "output-exists"
    assert (tmp_path / "key").read_text() == before
    assert code(shell.run("cache", "keygen", "two words", "new", status=2).stderr) == "name-invalid"
    assert code(shell.run("cache", "keygen", "x-1", "no/where", status=2).stderr) == "file-missing"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["key", "key.pub"]
