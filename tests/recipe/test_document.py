"""YAML texts: what is read, what is refused, and the exact place of each."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ccstore.errors import CcError
from ccstore.recipe import document
from ccstore.recipe.document import Mark, parse, read

LOADERS = sorted({document.LOADER, yaml.SafeLoader}, key=lambda loader: loader.__name__)


@pytest.fixture(params=LOADERS, ids=lambda loader: loader.__name__)
def _each_loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "LOADER", request.param)


def test_scalars_stay_as_they_are_written() -> None:
    text = "a: 6.10\nb: no\nc: 1_000\nd: 0x10\ne: 2026-01-01\nf: 'null'\ng: 12:30:00\nh: |\n  x\n  y\n"
    assert parse(text, "x").data == {
        "a": "6.10", "b": "no", "c": "1_000", "d": "0x10", "e": "2026-01-01", "f": "null", "g": "12:30:00",
        "h": "x\ny\n",
    }  # fmt: skip


def test_an_empty_text_is_an_empty_mapping() -> None:
    assert parse("", "x").data == {}
    assert parse("# nothing\n", "x").data == {}


def test_marks_of_keys_and_values() -> None:
    found = parse("a: 1\nb:\n  - x\n  - {c: dd}\n", "f.yml")
    assert found.mark(("b", 1, "c")) == Mark(3, 8, 2)
    assert found.mark(("b", 1, "c"), key=True) == Mark(3, 5, 1)
    assert found.where(("b", 1, "c")) == "f.yml:4:9"
    assert found.where(("b", 1, "nothing")) == "f.yml:4:5"
    assert found.where(("b", "gone", "nothing")) == "f.yml:2:1"


BAD = {
    "unclosed list": ("a: 1\nb: [1,\n", "recipe-syntax", "x.yml:2:4"),
    "bad indent": ("a:\n  b: 1\n c: 2\n", "recipe-syntax", "x.yml:3:2"),
    "colon in plain text": ("a: b: c\n", "recipe-syntax", "x.yml:1:5"),
    "tab": ("a:\n\tb: 1\n", "recipe-syntax", "x.yml:2:1"),
    "tab after text": ("a:\n  b:\n  \t- c: 1\n", "recipe-syntax", "x.yml:3:3"),
    "duplicate key": ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "recipe-syntax", "x.yml:5:3"),
    "anchor": ("a: &x 1\n", "recipe-syntax", "x.yml:1:4"),
    "anchored list": ("a: &x [1]\n", "recipe-syntax", "x.yml:1:4"),
    "alias": ("a: *x\n", "recipe-syntax", "x.yml:1:4"),
    "tag": ("a: 1\nb: !!python/object:os.system x\n", "recipe-syntax", "x.yml:2:4"),
    "merge key": ("<<: {a: 1}\n", "recipe-syntax", "x.yml:1:1"),
    "list as key": ("? [1]\n: 2\n", "recipe-syntax", "x.yml:1:3"),
    "two documents": ("a: 1\n---\nb: 2\n", "recipe-syntax", "x.yml:2:1"),
    "control character": ("a: 1\nb: x\x07y\n", "recipe-syntax", "x.yml:2:5"),
    "escaped NUL": ('a: "x\\0"\n', "recipe-syntax", "x.yml:1:4"),
    "deep nesting": ("[" * 30 + "]" * 30, "recipe-syntax", "x.yml:1:21"),
    "no value": ("a: 1\nb:\nc: 2\n", "recipe-invalid", "x.yml:2:1"),
    "null": ("a:\n  b: ~\n", "recipe-invalid", "x.yml:2:3"),
    "null in a list": ("a: [x, null]\n", "recipe-invalid", "x.yml:1:8"),
}


@pytest.mark.usefixtures("_each_loader")
@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(case: str) -> None:
    text, code, where = BAD[case]
    with pytest.raises(CcError) as caught:
        parse(text, "x.yml")
    assert caught.value.code == code
    assert caught.value.where == where


def test_the_excerpt_points_at_the_place() -> None:
    with pytest.raises(CcError) as caught:
        parse("a: 1\nbb: &anchor 2\n", "x.yml")
    line, caret = caught.value.details
    assert line.endswith("| bb: &anchor 2")
    assert caret.index("^") == line.index("&")


def test_the_excerpt_of_a_long_line_is_cut() -> None:
    with pytest.raises(CcError) as caught:
        parse("a: " + "x" * 5000 + ": y\n", "x.yml")
    line, caret = caught.value.details
    assert len(line) < 120
    assert line[caret.index("^")] == ":"


BOMB = "a: &a [x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True))


@pytest.mark.usefixtures("_each_loader")
@pytest.mark.parametrize("text", [BOMB, "[" * 100_000, "{a: " * 50_000, "- " * 100_000, "? " * 100_000])
def test_a_bomb_is_refused_at_once(text: str) -> None:
    began = time.process_time()
    with pytest.raises(CcError) as caught:
        parse(text, "x.yml")
    assert caught.value.code == "recipe-syntax"
    assert time.process_time() - began < 5


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CcError) as caught:
        read(path, "x.yml", document.RECIPE)
    assert caught.value.code == "recipe-syntax"


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_bytes("a: ä\nbö: ".encode() + b"\xff\n")
    with pytest.raises(CcError) as caught:
        read(path, "x.yml", document.RECIPE)
    assert (caught.value.code, caught.value.where) == ("recipe-syntax", "x.yml:2:5")


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read(path, "x.yml", document.RECIPE).data == {"a": "1"}


def test_a_fifo_is_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.yml")
    with pytest.raises(CcError) as caught:
        read(tmp_path / "x.yml", "x.yml", document.RECIPE)
    assert caught.value.code == "recipe-syntax"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CcError) as caught:
        read(tmp_path / "x.yml", "x.yml", document.RECIPE)
    assert caught.value.code == "file-missing"


SNIPPETS = st.sampled_from(
    ["a", ": ", "\n", "- ", "  ", "[", "]", "{", "}", ",", "&a ", "*a", "!!str ", "? ", "'", '"', "|\n", ">", "#",
     "---\n", "...\n", "%YAML 1.1\n", "%TAG ! tag:x,2000:\n", "\t", "\\", '"\\ud800"', '"\\U99999999"', "<<", "~",
     "\x85", "\u2028", "\ufeff", "%YAML 1." + "9" * 5000 + "\n", "0x1", "é", "\r"]
)  # fmt: skip


@pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.__name__)
@settings(max_examples=400, deadline=None)
@given(text=st.one_of(st.text(max_size=60), st.lists(SNIPPETS, max_size=25).map("".join)))
def test_any_text_gives_plain_values_or_an_error_with_a_place(loader: type, text: str) -> None:
    before, document.LOADER = document.LOADER, loader
    where = "x.yml:"
    try:
        found = parse(text, "x.yml").data
    except CcError as error:
        found, where = {}, str(error.where)
    finally:
        document.LOADER = before
    assert where.startswith("x.yml:")
    _assert_plain(found)


def _assert_plain(value: object) -> None:
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value)
        for each in value.values():
            _assert_plain(each)
    elif isinstance(value, list):
        for each in value:
            _assert_plain(each)
    else:
        assert isinstance(value, str)
        assert value.encode().decode() == value
