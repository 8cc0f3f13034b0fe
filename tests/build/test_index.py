"""`verify --repair` where the index itself is broken, and stores that lost an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccstore.store.store import Store
from tests.conftest import CCSTORE, Shell, write


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


def test_repair_makes_an_index_with_damaged_pages_again(tmp_path: Path) -> None:
    """Opening reads the first page only."""
    shell = _project(tmp_path)
    [note] = shell.realize("note")
    index = shell.store / "index.sqlite"
    data = bytearray(index.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    index.write_bytes(data)
    shell.run("verify", status=6)
    shell.run("verify", "--repair")
    assert shell.path("note") == note


def test_a_folder_that_is_gone_is_an_error_like_any_other(tmp_path: Path) -> None:
    shell = _project(tmp_path / "project")
    gone = tmp_path / "gone"
    gone.mkdir()
    found = Shell(gone, shell.store, program=("sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", str(CCSTORE))).run(
        "path", "note", status=2
    )
    assert "Traceback" not in found.stderr
    assert "[file-missing]" in found.stderr


@pytest.mark.parametrize("left", [b"", b"x"])
def test_an_index_that_was_cut_to_nothing_is_not_an_empty_store(tmp_path: Path, left: bytes) -> None:
    """SQLite opens it without complaint, and `gc` would find every object dead."""
    shell = _project(tmp_path)
    [note] = shell.realize("note")
    (shell.store / "index.sqlite").write_bytes(left)
    for verb in ("gc", "verify", "list"):
        assert "[store-unusable]" in shell.run(verb, status=6).stderr
    shell.run("verify", "--repair")
    assert shell.path("note") == note
    shell.run("verify")


def test_a_record_that_a_crash_left_unwritten_is_written_by_the_next_run(tmp_path: Path) -> None:
    """Without it, a collection would not know that the object is an input of anything."""
    shell = _project(tmp_path)
    shell.realize("note")
    [record] = (shell.store / "realisations").iterdir()
    text = record.read_text()
    record.unlink()
    write(tmp_path / "recipes/other.yml", "kind: path\npath: note.txt\n")
    shell.realize("note")
    assert record.read_text() == text
