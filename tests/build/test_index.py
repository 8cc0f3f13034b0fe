"""`verify --repair` where the index itself is broken, and stores that lost an empty folder."""

from __future__ import annotations

from pathlib import Path

from ccstore.store.store import Store
from tests.conftest import Shell, write


def _project(root: Path) -> Shell:
    write(root / "recipes/ccstore.yml", "project: index\n")
    write(root / "recipes/note.yml", "kind: path\npath: note.txt\n")
    write(root / "recipes/note.txt", "a note\n")
    return Shell(root, root / "store")


def test_repair_makes_a_broken_index_again(tmp_path: Path) -> None:
    shell = _project(tmp_path)
    [note] = shell.realize("note")
    (shell.store / "index.sqlite").write_bytes(b"no database" * 100)
    broken = shell.run("verify", status=None)
    assert broken.returncode == 6
    assert "[store-unusable]" in broken.stderr
    shell.run("verify", "--repair")
    assert shell.path("note") == note
    shell.run("verify", "--full")


def test_a_damaged_object_is_made_again(tmp_path: Path) -> None:
    shell = _project(tmp_path)
    [note] = shell.realize("note")
    note.chmod(0o644)
    note.write_text("a nOte\n")
    assert "content" in shell.run("verify", status=4).stdout
    shell.run("verify", "--repair")
    assert note.read_text() == "a note\n"


def test_a_folder_that_went_missing_comes_back(tmp_path: Path) -> None:
    shell = _project(tmp_path)
    Store.open(shell.store).close()
    (shell.store / "temproots").rmdir()
    (shell.store / "history").rmdir()
    shell.realize("note")
