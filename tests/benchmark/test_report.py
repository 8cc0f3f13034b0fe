"""The benchmark's table and chart: read from what works print, kept from run to run."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.benchmark import __main__ as benchmark
from tests.benchmark import report
from tests.benchmark.chart import Bar, chart

FAST = "| no-op `realize` | `bst build` | ≤ 0.06 × | 0.03 × (13.0 ms / 440.0 ms; CPU 0.02 ×; median of 41) |"
SLOW = "| cold, `--assist` | its own | ≤ 1.15 × CPU | 1.40 × (1 s / 2 s; CPU 1.12 ×; once) |"
OTHER = "| to user space | – | < 2 s | 0.54 s of guest time |"


@pytest.mark.parametrize(
    ("line", "ratio", "most", "verdict"),
    [
        (FAST, 0.03, 0.06, "met"),
        (FAST.replace("0.03", "0.07"), 0.07, 0.06, "**missed**"),
        (SLOW, 1.12, 1.15, "met"),
        (OTHER, None, None, ""),
    ],
)
def test_a_row_says_whether_it_is_good_enough(
    line: str, ratio: float | None, most: float | None, verdict: str
) -> None:
    row = report.Row.parse(line)
    assert row is not None
    assert (row.ratio, row.most, row.verdict) == (ratio, most, verdict)


def test_what_is_printed_is_passed_on_and_rows_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.redirect_stdout(report.Printed()) as printed:
        print("| work |", "no row", FAST, OTHER, "| a | b |", sep="\n")
    assert [row.work for row in printed.rows] == ["no-op `realize`", "to user space"]
    assert FAST in capsys.readouterr().out


def test_a_run_of_one_work_leaves_the_others(tmp_path: Path) -> None:
    rows = {name: [row for line in lines if (row := report.Row.parse(line))] for name, lines in LINES.items()}
    order = ["first", "second"]
    for name in ("second", "first"):
        report.keep(tmp_path, name, rows[name], order)
    report.keep(tmp_path, "second", rows["second"], order)
    assert list(json.loads((tmp_path / "results.json").read_text())) == order
    table = (tmp_path / "results.md").read_text()
    assert re.findall(r"^\| (?!work|---)(.*?) \|", table, re.MULTILINE) == ["no-op `realize`", "cold, `--assist`",
                                                                          "to user space"]  # fmt: skip
    assert FAST.removesuffix(" |") in table
    assert (tmp_path / "results.svg").read_text().count('class="met"') == 2


LINES = {"first": [FAST], "second": [SLOW, OTHER]}


NIX = "| no-op `realize` | `nix-build` | ≤ 1 × | 0.80 × (8.0 ms / 10.0 ms; CPU 0.70 ×; median of 41) |"


@pytest.fixture
def no_rivals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def test_what_was_measured_beside_an_absent_rival_stays(no_rivals: None, tmp_path: Path) -> None:
    def rows(*lines: str) -> list[report.Row]:
        return [row for line in lines if (row := report.Row.parse(line))]

    report.keep(tmp_path, "noop", rows(NIX, FAST, OTHER), ["noop"])
    for _ in range(2):
        report.keep(tmp_path, "noop", rows(FAST.replace("0.03 ×", "0.04 ×")), ["noop"])
    found = json.loads((tmp_path / "results.json").read_text())["noop"]
    assert [cells[1] for cells in found["rows"]] == ["`bst build`"]
    assert [[cells[1] for cells in block["rows"]] for block in found["earlier"]] == [["`nix-build`"]]
    table = (tmp_path / "results.md").read_text()
    assert NIX.removesuffix(" |") in table
    assert "0.04 ×" in table
    assert "to user space" not in table


def test_without_nix_its_works_are_left_out(
    no_rivals: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    works = benchmark.BESIDE_NIX
    monkeypatch.setattr("sys.argv", ["benchmark", *works, "--output", str(tmp_path)])
    benchmark.main()
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in said] == ["nix is not installed"] * len(works)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_realised_is_said_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CCSTORE_STORE", str(tmp_path / "store"))
    monkeypatch.setattr("sys.argv", ["benchmark", "eta", "agent", "--output", str(tmp_path / "table")])
    with pytest.raises(SystemExit, match=r"realize kernel kernel\^dev .*clear-containers\.vmlinux\+initrd"):
        benchmark.main()
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "table").exists()


def test_a_chart_has_a_bar_for_each_and_cuts_off_long_ones() -> None:
    bars = [
        Bar("`one` & all", "<rival>", 0.5, 1.0),
        Bar("two", "rival", 2.0, 1.0),
        Bar("three", "rival", 9.0, 1.0),
    ]
    root = ElementTree.fromstring(chart(bars))
    namespace = "{http://www.w3.org/2000/svg}"
    drawn = [each for each in root.iter(f"{namespace}rect") if each.get("class") != "page"]
    assert [each.get("class") for each in drawn] == ["met", "missed", "missed"]
    widths = [float(each.get("width", "")) for each in drawn]
    assert widths[0] < widths[1] == widths[2]
    words = [each.text for each in root.iter(f"{namespace}text")]
    assert {"one & all", "<rival>", "0.50 ×", "9.00 ×"} <= set(words)
