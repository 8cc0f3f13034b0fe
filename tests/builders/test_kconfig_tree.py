"""kernel.kconfig: a change in code ends there, a change in what decides a configuration does not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ccstore.codec.nar import nar_hash
from tests.builders.conftest import TINYLINUX, Step


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The tiny tree, and what a large one has beside."""
    top = tmp_path / "tree"
    shutil.copytree(TINYLINUX, top)
    (top / "scripts/kconfig").mkdir()
    (top / "scripts/kconfig/conf.c").write_text("int main(void) { return 0; }\n")
    (top / "scripts/also").symlink_to("kconfig")
    (top / "Documentation").mkdir()
    (top / "Documentation/Kconfig").write_text("config WARN\n")
    (top / "Documentation/read.rst").write_text("read me\n")
    return top


def text(path: str, words: str) -> Callable[[Path], None]:
    def change(top: Path) -> None:
        with (top / path).open("a") as file:
            file.write(words)

    return change


def test_what_stays(select: Step, tree: Path) -> None:
    out = select.run({"tree": tree}).out
    found = {str(each.relative_to(out)) for each in out.rglob("*") if not each.is_dir() or each.is_symlink()}
    assert {
        "Kconfig",
        "Makefile",
        "Documentation/Kconfig",
        "scripts/conf.py",
        "scripts/kconfig/conf.c",
    } <= found
    assert (out / "scripts/also").readlink() == Path("kconfig")
    assert not [
        name for name in found if name.endswith((".c", ".h", ".rst")) and not name.startswith("scripts/")
    ]
    assert {name: (out / name).read_bytes() for name in found if (out / name).is_file()} == {
        name: (tree / name).read_bytes() for name in found if (tree / name).is_file()
    }


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (text("init/main.c", "int more;\n"), True),
        (text("Documentation/read.rst", "more\n"), True),
        (text("new.h", "#define MORE\n"), True),
        (text("Kconfig", "config MORE\n\tbool\n"), False),
        (text("Makefile", "# more\n"), False),
        (text("scripts/kconfig/conf.c", "int more;\n"), False),
        (lambda top: (top / "scripts/also").unlink(), False),
        (lambda top: (top / "scripts/conf.py").chmod(0o644), False),
    ],
)
def test_what_counts(select: Step, tree: Path, change: Callable[[Path], None], same: bool) -> None:
    (tree / "scripts/conf.py").chmod(0o755)
    before = nar_hash(select.run({"tree": tree}).out)
    change(tree)
    assert (nar_hash(select.run({"tree": tree}).out) == before) is same
