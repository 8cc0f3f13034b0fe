"""kernel.patched: series of patches, and what is said when one does not fit."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.builders.conftest import Built, Step

LINES = [f"line {number}\n" for number in range(1, 31)]


def diff(name: str, old: list[str], new: list[str]) -> str:
    before = f"a/{name}" if old else "/dev/null"
    after = f"b/{name}" if new else "/dev/null"
    return "".join(difflib.unified_diff(old, new, before, after))


def changed(*numbers: int) -> list[str]:
    return [f"changed {line}" if at in numbers else line for at, line in enumerate(LINES, 1)]


class Tree:
    """A source tree of one file, and folders of patches."""

    def __init__(self, step: Step, folder: Path) -> None:
        self._step = step
        self._folder = folder
        self.files = {"drivers/file.c": LINES}

    def apply(self, *inputs: dict[str, str] | str, **options: Any) -> Built:
        """Each input is a folder of patches, or the text of one patch; `options` are those of each input."""
        tree = self._folder / "tree"
        for name, lines in self.files.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text("".join(lines))
            (tree / name).chmod(0o444)
        paths = {"tree": tree}
        for number, content in enumerate(inputs):
            path = paths[f"patches-{number:02}"] = self._folder / f"patches-{number:02}"
            if isinstance(content, str):
                path.write_text(content)
                continue
            path.mkdir()
            for name, text in content.items():
                (path / name).parent.mkdir(exist_ok=True)
                (path / name).write_text(text)
        given = {name: options for name in paths if options and name != "tree"}
        return self._step.run(paths, {"OPTIONS": json.dumps(given)})


@pytest.fixture
def tree(patch: Step, tmp_path: Path) -> Tree:
    return Tree(patch, tmp_path)


def content(built: Built) -> list[str]:
    return (built.out / "drivers/file.c").read_text().splitlines(keepends=True)


def left(built: Built) -> list[str]:
    return sorted(str(each.relative_to(built.out)) for each in built.out.rglob("*") if each.is_file())


def test_patches_apply_by_name_and_other_files_do_not(tree: Tree) -> None:
    built = tree.apply(
        {
            "0002-b.patch": diff("drivers/file.c", changed(3), changed(3, 20)),
            "0001-a.diff": diff("drivers/file.c", LINES, changed(3)),
            "README.md": "not a patch",
        }
    )
    assert content(built) == changed(3, 20)
    assert left(built) == ["drivers/file.c"]


def test_a_series_decides_the_order(tree: Tree) -> None:
    built = tree.apply(
        {
            "a.patch": diff("drivers/file.c", changed(3), changed(3, 4)),
            "b.patch": diff("drivers/file.c", LINES, changed(3)),
            "unused.patch": "nonsense",
            "series": "# in this order\nb.patch\n\na.patch -p1  # the second\n",
        }
    )
    assert content(built) == changed(3, 4)


def test_a_series_says_how_a_patch_is_applied(tree: Tree) -> None:
    tree.files["drivers/file.c"] = changed(9)
    built = tree.apply(
        {
            "sub/p0.patch": diff("drivers/file.c", changed(9), changed(3, 9))
            .replace("a/", "")
            .replace("b/", ""),
            "p2.patch": diff("top/drivers/file.c", changed(3, 9), changed(3, 4, 9)),
            "ab.patch": diff("drivers/file.c", changed(3, 4, 9), changed(3, 4, 5, 9)),
            "back.patch": diff("drivers/file.c", changed(3, 4, 5), changed(3, 4, 5, 9)),
            "c#.patch": diff("c.c", [], ["c\n"]),
            "series": "sub/p0.patch -p0\n\tp2.patch -p2 # two\nab.patch -pab\n#no.patch\nback.patch -R\nc#.patch\n",
        }
    )
    assert content(built) == changed(3, 4, 5)
    assert left(built) == ["c.c", "drivers/file.c"]


def test_a_series_may_have_another_name(tree: Tree) -> None:
    patches = {
        "a.patch": diff("drivers/file.c", LINES, changed(3)),
        "b.patch": diff("drivers/file.c", LINES, changed(4)),
        "series": "a.patch\n",
        "series-rt": "b.patch\n",
    }
    assert content(tree.apply(patches, series="series-rt")) == changed(4)


def test_a_series_that_is_not_there(tree: Tree) -> None:
    report = tree.apply({"a.patch": diff("drivers/file.c", LINES, changed(3))}, series="series-rt").report
    assert (report["code"], report["message"]) == ("file-missing", "there is no series series-rt")


def test_a_reversed_patch_may_be_in_the_tree_already(tree: Tree) -> None:
    patches = {"a.patch": diff("drivers/file.c", LINES, changed(3)), "series": "a.patch -R\n"}
    assert tree.apply(patches).report["code"] == "patch-applied"


def test_inputs_apply_one_after_another_and_one_may_be_a_patch(tree: Tree) -> None:
    first = diff("drivers/file.c", LINES, changed(3))
    second = diff("drivers/file.c", changed(3), changed(3, 4))
    assert content(tree.apply(first, {"x.patch": second})) == changed(3, 4)


def test_no_patches_leave_the_tree_alone(tree: Tree) -> None:
    assert left(tree.apply({"README.md": "none yet"})) == []


def test_files_come_and_go(tree: Tree) -> None:
    tree.files["old.c"] = ["gone\n"]
    text = diff("new/file.c", [], ["new\n"]) + diff("old.c", ["gone\n"], [])
    built = tree.apply({"a.patch": text})
    assert (built.out / "new/file.c").read_text() == "new\n"
    assert not (built.out / "old.c").is_file()


def test_an_offset_is_fine(tree: Tree) -> None:
    tree.files["drivers/file.c"] = ["one more\n", *LINES]
    assert content(tree.apply({"a.patch": diff("drivers/file.c", LINES, changed(20))})) == [
        "one more\n",
        *changed(20),
    ]


def test_fuzz_is_not(tree: Tree) -> None:
    tree.files["drivers/file.c"] = changed(17)
    built = tree.apply({"a.patch": diff("drivers/file.c", LINES, changed(20))})
    assert built.report["code"] == "patch-failed"


def test_a_hunk_that_fails_is_named_with_file_line_and_reject(tree: Tree) -> None:
    tree.files["drivers/file.c"] = changed(20)
    text = diff("drivers/file.c", LINES, [line.replace("20", "twenty") for line in changed(3)])
    built = tree.apply({"0001-good.patch": diff("a.c", [], ["a\n"]), "0002-bad.patch": text})
    assert built.exit_status == 1
    assert (built.report["code"], built.report["input"]) == ("patch-failed", "patches-00")
    assert (
        built.report["message"] == "0002-bad.patch does not apply: hunk 2 failed at drivers/file.c, line 17"
    )
    assert "-line 20" in built.report["details"]
    assert "+line twenty" in built.report["details"]


@pytest.mark.parametrize(
    "text",
    [diff("drivers/file.c", changed(5), LINES), diff("drivers/file.c", [], LINES)],
    ids=["a change", "a new file"],
)
def test_a_patch_that_the_source_has_is_recognised(tree: Tree, text: str) -> None:
    built = tree.apply({"0001-old.patch": text})
    assert built.report["code"] == "patch-applied"
    assert built.report["message"] == "0001-old.patch is already in the tree"
    assert "drop 0001-old.patch" in built.report["hint"]
    assert "`skip-applied: true`" in built.report["hint"]


def test_a_patch_that_the_source_has_is_left_out_if_the_recipe_says_so(tree: Tree) -> None:
    old, new = diff("drivers/file.c", changed(5), LINES), diff("drivers/file.c", LINES, changed(7))
    built = tree.apply({"0001-old.patch": old, "0002-new.patch": new}, **{"skip-applied": True})
    assert content(built) == changed(7)
    assert "skipped 0001-old.patch: it is already in the tree\n" in built.log
    assert "skipped 0002" not in built.log
    assert left(built) == ["drivers/file.c"]


def test_leaving_out_a_patch_undoes_what_it_did_to_the_tree(tree: Tree) -> None:
    """Its second hunk fits a second time; the first shows that it was there."""
    tree.files = {"a.c": changed(5), "drivers/file.c": [*LINES, "new\n", *LINES, *LINES]}
    text = diff("a.c", LINES, changed(5)) + diff(
        "drivers/file.c", [*LINES, *LINES], [*LINES, "new\n", *LINES]
    )
    built = tree.apply({"0001-old.patch": text}, **{"skip-applied": True})
    assert content(built) == tree.files["drivers/file.c"]
    assert (built.out / "a.c").read_text() == "".join(changed(5))


def test_a_patch_that_does_not_fit_is_not_left_out(tree: Tree) -> None:
    text = diff("drivers/file.c", changed(6), changed(6, 7))
    built = tree.apply({"0001-bad.patch": text}, **{"skip-applied": True})
    assert built.report["code"] == "patch-failed"


def test_a_patch_of_which_the_source_has_half_is_not_left_out(tree: Tree) -> None:
    tree.files["other.c"] = LINES
    text = diff("drivers/file.c", changed(5), LINES) + diff("other.c", LINES, changed(9))
    built = tree.apply({"0001-half.patch": text}, **{"skip-applied": True})
    assert built.report["code"] == "patch-failed"


def test_a_patch_that_an_earlier_one_contains_is_recognised(tree: Tree) -> None:
    text = diff("drivers/file.c", LINES, changed(5))
    assert tree.apply(text, text).report["message"] == "patches-01 is already in the tree"


@pytest.mark.parametrize("name", ["../outside", "drivers/../../outside", ".git/config", "sub/.git/hooks/x"])
def test_names_outside_the_tree_are_refused(tree: Tree, name: str) -> None:
    built = tree.apply({"a.patch": diff("drivers/file.c", LINES, changed(3)) + diff(name, [], ["x\n"])})
    assert built.report["code"] == "patch-failed"
    assert name in built.report["message"]


@pytest.mark.parametrize(
    "header", ["--- /etc/passwd\n+++ b/x\n", "diff --git a/x b/x\nrename from x\nrename to /etc/x\n"]
)
def test_absolute_names_are_refused(tree: Tree, header: str) -> None:
    built = tree.apply({"a.patch": header + "@@ -1 +1 @@\n-a\n+b\n"})
    assert "outside the tree" in built.report["message"]


def test_a_link_that_leads_outside_is_refused(tree: Tree) -> None:
    link = "diff --git a/link b/link\nnew file mode 120000\n--- /dev/null\n+++ b/link\n@@ -0,0 +1 @@\n+/etc/passwd\n"
    text = link + "\\ No newline at end of file\n"
    assert "leads outside" in tree.apply({"a.patch": text}).report["message"]


def test_a_changed_line_may_look_like_a_header(tree: Tree) -> None:
    tree.files["drivers/file.c"] = ["-- ../../etc/passwd\n", *LINES]
    built = tree.apply({"a.patch": diff("drivers/file.c", tree.files["drivers/file.c"], LINES)})
    assert content(built) == LINES


@pytest.mark.parametrize(
    ("series", "code"),
    [
        ("missing.patch\n", "file-missing"),
        ("../a.patch\n", "recipe-invalid"),
        ("a.patch -p1 -p1\n", "recipe-invalid"),
        ("a.patch -F3\n", "recipe-invalid"),
        ("a.patch b.patch\n", "recipe-invalid"),
    ],
)
def test_a_series_must_name_patches_of_its_folder(tree: Tree, series: str, code: str) -> None:
    text = diff("drivers/file.c", LINES, changed(3))
    built = tree.apply({"a.patch": text, "series": series})
    assert (built.report["code"], built.report["input"]) == (code, "patches-00")
    assert "series, line 1" in built.report["message"]


def test_a_patch_without_a_diff_is_refused(tree: Tree) -> None:
    assert tree.apply({"a.patch": "Subject: nothing\n"}).report["code"] == "patch-failed"
