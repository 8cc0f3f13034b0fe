"""What differs between two texts, in the terms of what they are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccstore.explain.texts import Difference, differences, hunks, symbols
from tests.conftest import needs

CONFIG = '# base\nCONFIG_A=y\nCONFIG_S="x=1 # no"\n# CONFIG_B is not set\n'
PATCH = """From: someone
---
--- a/drivers/bus.c
+++ b/drivers/bus.c
@@ -2,3 +2,3 @@ void f(void)
 {
-\tone();
+\ttwo();
 }
--- a/Makefile
+++ b/Makefile
@@ -9 +9,2 @@
 obj-y += a.o
+obj-y += b.o
"""


def found(name: str, old: str, new: str) -> list[tuple[str, str, str | None, str | None]]:
    return [(each.unit, each.what, each.old, each.new) for each in differences(name, old, new)]


def test_symbols_of_a_config() -> None:
    assert symbols(CONFIG) == {"CONFIG_A": ("y", 2), "CONFIG_S": ('"x=1 # no"', 3), "CONFIG_B": ("n", 4)}


def test_a_config_differs_by_symbols() -> None:
    new = CONFIG.replace("A=y", "A=m").replace("# CONFIG_B is not set", "CONFIG_C=3")
    assert differences("a.config", CONFIG, new) == [
        Difference("symbol", "CONFIG_A", "y", "m", 2),
        Difference("symbol", "CONFIG_C", None, "3", 4),
        Difference("symbol", "CONFIG_B", "n", None, 4),
    ]


def test_a_comment_of_a_config_changes_nothing() -> None:
    [only] = differences("a.config", CONFIG, f"# new\n{CONFIG}")
    assert (only.unit, only.old, only.new) == ("text", None, None)


def test_the_last_line_of_a_symbol_counts() -> None:
    assert found("a", "CONFIG_A=y\n", "CONFIG_A=y\nCONFIG_A=m\n") == [("symbol", "CONFIG_A", "y", "m")]


def test_hunks_of_a_patch() -> None:
    first, second = hunks(PATCH)
    assert (first.file, first.number, first.start, first.at) == ("drivers/bus.c", 1, 2, 5)
    assert first.changes == ["-\tone();", "+\ttwo();"]
    assert (second.place, second.changes) == ("Makefile, hunk 1, line 9", ["+obj-y += b.o"])


def test_a_line_that_looks_like_a_header_is_a_line_of_its_hunk() -> None:
    patch = "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n--- a/y\n+++ b/y\n same\n@@ -9 +9 @@\n-1\n+2\n"
    assert [(each.file, each.number, len(each.body)) for each in hunks(patch)] == [("x", 1, 3), ("x", 2, 2)]


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("two()", "three()", ("hunk", "drivers/bus.c, hunk 1, line 2", "+\ttwo();", "+\tthree();")),
        (
            "+9,2 @@\n obj-y += a.o\n+obj-y += b.o\n",
            "",
            ("hunk", "Makefile, hunk 1, line 9", "+obj-y += b.o", None),
        ),
        ("-2,3 +2,3", "-7,3 +7,3", ("text", "only what stands around its hunks", None, None)),
        ("someone", "another", ("text", "only what stands around its hunks", None, None)),
        (" {\n", " other\n", ("hunk", "drivers/bus.c, hunk 1, line 2", "line 2", "line 2, other context")),
    ],
)
def test_a_patch_differs_by_hunks(
    old: str, new: str, wanted: tuple[str, str, str | None, str | None]
) -> None:
    assert old in PATCH
    assert found("a.patch", PATCH, PATCH.replace(old, new)) == [wanted]


def test_a_hunk_that_comes_between_others_is_alone() -> None:
    more = "--- a/new.c\n+++ b/new.c\n@@ -0,0 +1 @@\n+x\n--- a/Makefile"
    assert found("a.patch", PATCH, PATCH.replace("--- a/Makefile", more)) == [
        ("hunk", "new.c, hunk 1, line 0", None, "+x")
    ]


def test_json_differs_by_values() -> None:
    old, new = '{"a": {"b": [1, "x"]}, "c": null}', '{"a": {"b": [1, "y", true]}, "d": {}}'
    assert found("x.json", old, new) == [
        ("value", "a.b.1", "x", "y"),
        ("value", "c", "null", None),
        ("value", "a.b.2", None, "true"),
        ("value", "d", None, "{}"),
    ]
    assert found("x.json", old, old.replace(" ", ""))[0][0] == "text"


def test_other_texts_differ_by_lines() -> None:
    old = "set -e\nmake\ncp a $out\n"
    assert found("build.sh", old, "set -e\nmake -j2\ncp a $out\nexit\n") == [
        ("line", "line 2", "make", "make -j2"),
        ("line", "line 4", None, "exit"),
    ]
    assert found("build.sh", old, old.replace("\n", "\r\n"))[0][1] == "the ends of its lines"
    assert found("data", "\0a", "\0bc") == [("line", "content", "2 bytes", "3 bytes")]


TEXTS = st.lists(
    st.sampled_from(
        ["", "# x", "CONFIG_A=y", "CONFIG_A=n", "# CONFIG_B is not set", "{", "\0", "é\udcff", "@@ -1 +1 @@"]
    )
).map("\n".join)


@given(st.sampled_from(["a.config", "a.patch", "a.json", "a"]), TEXTS, TEXTS)
def test_two_that_differ_are_never_said_to_be_the_same(name: str, old: str, new: str) -> None:
    assert bool(differences(name, old, new)) == (old != new)


@needs("git")
@given(st.lists(st.sampled_from("abc"), max_size=30), st.lists(st.sampled_from("abc"), max_size=30))
def test_hunks_are_those_that_git_counts(
    tmp_path_factory: pytest.TempPathFactory, old: list[str], new: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("texts")
    for name, lines in (("old", old), ("new", new)):
        Path(folder, name).write_text("".join(f"{line}\n" for line in lines))
    command = ["git", "diff", "--no-index", "-U1", "old", "new"]
    patch = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout
    read = list(hunks(patch))
    assert len(read) == sum(line.startswith("@@ ") for line in patch.splitlines())
    changed = [line for line in patch.splitlines() if line[:1] in "+-" and line[:4] not in ("--- ", "+++ ")]
    assert [line for hunk in read for line in hunk.changes] == changed
