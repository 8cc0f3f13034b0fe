"""Which paths of two trees differ, and how."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccstore.compare.trees import MOST_FILES, MOST_FINDINGS

from .sides import Content, differences


def test_equal_trees_do_not_differ(tmp_path: Path) -> None:
    tree: Content = {"a": b"text\n", "b": {"c": bytes(range(256))}}
    assert differences(tmp_path, tree, tree) == []


def test_every_kind_of_difference_is_told(tmp_path: Path) -> None:
    first: Content = {
        "same": b"x",
        "text": b"a\n",
        "gone": {"x": b""},
        "kind": b"",
        "link": b"",
        "mode": b"#!",
    }
    second: Content = {"same": b"x", "text": b"b\n", "kind": {}, "link": b"", "mode": b"#!", "new": b"1"}

    def change(one: Path, other: Path) -> None:
        for place, target in ((one, "here"), (other, "there")):
            (place / "link").unlink()
            (place / "link").symlink_to(target)
        (other / "mode").chmod(0o755)

    found = differences(tmp_path, first, second, change)
    assert [(each.path, each.what) for each in found] == [
        ("gone", "missing"),
        ("gone/x", "missing"),
        ("kind", "kind"),
        ("link", "link"),
        ("mode", "mode"),
        ("new", "added"),
        ("text", "content"),
    ]
    told = {each.path: [(one.first, one.second) for one in each.findings] for each in found}
    assert told["kind"] == [("file", "directory")]
    assert told["link"] == [("here", "there")]
    assert told["mode"] == [("not executable", "executable")]
    assert told["text"] == [("a", "b")]


def test_a_file_of_another_name_is_one_difference(tmp_path: Path) -> None:
    [found] = differences(tmp_path, {"built-on-ccstore": b"x\n"}, {"built-on-rebuild-1": b"y\n"})
    assert (found.path, found.what) == ("built-on-ccstore", "renamed")
    name, content = found.findings
    assert (name.where, name.causes) == (("name",), ("host name",))
    assert (content.where, content.first, content.second) == (("line 1",), "x", "y")


def test_names_that_are_digests_are_paired_by_size(tmp_path: Path) -> None:
    small, large = b"made by /build\n", b"made by /build and more\n"
    first: Content = {"blobs": {"aa": small, "bb": large}}
    second: Content = {
        "blobs": {"cc": large.replace(b"/build", b"/home/other/build"), "dd": small + b"again\n"}
    }
    found = differences(tmp_path, first, second)
    assert [(each.path, each.findings[0].second) for each in found] == [
        ("blobs/aa", "blobs/dd"),
        ("blobs/bb", "blobs/cc"),
    ]
    assert found[1].findings[1].causes == ("build path",)


def test_names_that_come_in_other_numbers_are_not_paired(tmp_path: Path) -> None:
    found = differences(tmp_path, {"a": b"1"}, {"b": b"1", "c": b"2"})
    assert [(each.path, each.what) for each in found] == [("a", "missing"), ("b", "added"), ("c", "added")]


def test_sizes_and_changed_bytes(tmp_path: Path) -> None:
    [found] = differences(tmp_path, bytes(1000), bytes(500) + b"\1\2" + bytes(498))
    assert (found.first_size, found.second_size, found.changed) == (1000, 1000, 2)
    [found] = differences(tmp_path, b"\0abc", b"\0abcd")
    assert (found.first_size, found.second_size, found.changed) == (4, 5, None)


def test_an_empty_file_differs_from_another(tmp_path: Path) -> None:
    [found] = differences(tmp_path, {"a": b""}, {"a": b"x"})
    assert [(each.first, each.second) for each in found.findings] == [("", "x")]


@pytest.mark.parametrize("folder", [True, False])
def test_only_so_much_is_told_of_one_file(tmp_path: Path, folder: bool) -> None:
    lines = [f"line {number}" for number in range(100)]
    first, second = "\n".join(lines).encode(), "\n".join(f"other {line}" for line in lines).encode()
    [found] = differences(tmp_path, {"f": first} if folder else first, {"f": second} if folder else second)
    assert (len(found.findings), found.more) == (MOST_FINDINGS, True)


def test_only_so_many_files_are_taken_apart(tmp_path: Path) -> None:
    names = [f"{number:03}" for number in range(MOST_FILES + 3)]
    found = differences(tmp_path, dict.fromkeys(names, b"a"), dict.fromkeys(names, b"b"))
    assert [each.path for each in found] == names
    assert [bool(each.findings) for each in found] == [True] * MOST_FILES + [False] * 3


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")

    def change(one: Path, other: Path) -> None:
        (one / "a").symlink_to(tmp_path / "secret")

    [found] = differences(tmp_path, {}, {"a": b"x"}, change)
    assert [(each.first, each.second) for each in found.findings] == [("symlink", "file")]
