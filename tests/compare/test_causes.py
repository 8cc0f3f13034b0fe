"""Why two texts or numbers differ."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccstore.compare.causes import ORDER, RANDOM, TIME, common_ends, of_texts, regions
from ccstore.compare.findings import Circumstances

from .sides import AGAIN, BUILT, KNOWN, finding, findings


@pytest.mark.parametrize(
    ("first", "second", "cause"),
    [
        ("on ccstore now", "on rebuild-1 now", "host name"),
        ("-I/build/include", "-I/home/other/build/include", "build path"),
        ("/build", "/home/other/build", "build path"),
        ("builder", "rebuilder", "user and group"),
        ("uid=1000", "uid=4242", "user and group"),
        ("mode 0644", "mode 0640", "umask"),
        ("made with 2 jobs", "made with 3 jobs", "number of jobs"),
        ("make -j2 all", "make -j3 all", "number of jobs"),
        ("SEED=", "SEED=5eed5eed5eed5eed", "environment"),
        ("Sun Nov 29 10:08:19 UTC 2026", "Sat Jan  1 23:09:28 UTC 2028", TIME),
        ("2026-11-29", "2028-01-01", TIME),
        ("2026-11-29T10:08:19Z", "2028-01-01T23:09:28Z", TIME),
        ("29 Nov 2026", "1 Jan 2028", TIME),
        ("20261129", "20280101", TIME),
        ("at 10:08:19", "at 23:09:28", TIME),
        (f"stamp {BUILT}", f"stamp {AGAIN + 3}", TIME),
        (f"{BUILT}123456789", f"{AGAIN}987654321", TIME),
        (f"{BUILT}.25", f"{AGAIN}.75", TIME),
        ("id 6ba7b810-9dad-11d1-80b4-00c04fd430c8", "id 0ba7b810-9dad-41d1-80b4-00c04fd430c9", RANDOM),
        ("/tmp/tmp.Ab3dEf9hIj/x", "/tmp/tmp.Zb4dEf8hIk/x", RANDOM),
        ("/tmp/ccAbcdEf.o", "/tmp/ccZycdEg.o", RANDOM),
        ("alpha beta gamma", "gamma alpha beta", ORDER),
        ("abcdefgh", "bhfcgead", ORDER),
    ],
)
def test_a_known_cause_is_found(first: str, second: str, cause: str) -> None:
    assert of_texts(first, second, KNOWN) == (cause,)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("on ccstore: 17", "on ccstore: 18"),  # the word is there, and not where they differ
        ("rebuild-1", "ccstore"),  # the other way round
        ("made with 12 jobs", "made with 13 jobs"),
        ("2", "4"),
        ("0123", "0132"),
        ("size 1700000", "size 1800000"),
        ("serial 9900000000", "serial 9900000001"),
        ("deadbeefdeadbeef", "deadbeefdeadbee0"),
        ("", "x"),
    ],
)
def test_nothing_is_made_up(first: str, second: str) -> None:
    assert of_texts(first, second, KNOWN) == ()


def test_two_causes_in_one_line_are_both_told() -> None:
    causes = of_texts("builder@ccstore", "rebuilder@rebuild-1", KNOWN)
    assert set(causes) == {"host name", "user and group"}


def test_without_circumstances_times_are_still_known() -> None:
    assert of_texts("2026-11-29", "2028-01-01", Circumstances()) == (TIME,)
    assert of_texts(f"{BUILT}", f"{AGAIN}", Circumstances()) == (TIME,)


@given(st.text(max_size=30), st.text(max_size=30))
def test_the_region_is_all_that_differs(first: str, second: str) -> None:
    (begin, end), (other_begin, other_end) = regions(first, second)
    assert begin == other_begin
    assert first[:begin] == second[:begin]
    assert first[end:] == second[other_end:]
    assert begin <= end
    assert begin <= other_end
    if first != second:
        assert first[begin:end] != second[begin:other_end]


def test_common_ends_do_not_overlap() -> None:
    assert common_ends("aa", "aaa") == (2, 0)
    assert common_ends(["x", "y"], ["x", "z", "y"]) == (1, 1)


@pytest.mark.parametrize("form", ["<I", ">I", "<Q", ">Q"])
def test_a_binary_time_is_known(tmp_path: Path, form: str) -> None:
    first, second = (b"\x80\0" + struct.pack(form, moment) + bytes(9) for moment in (BUILT + 7, AGAIN + 7))
    assert finding(tmp_path, first, second).causes == (TIME,)


def test_a_binary_id_is_known(tmp_path: Path) -> None:
    first, second = (b"\x80\0" + struct.pack("<I", uid) + bytes(9) for uid in (1000, 4242))
    assert finding(tmp_path, first, second).causes == ("user and group",)


def test_a_word_in_binary_data_is_known(tmp_path: Path) -> None:
    first, second = (b"\x80\0built on " + host + b"\0\xff" for host in (b"ccstore\0\0", b"rebuild-1"))
    found = finding(tmp_path, first, second)
    assert (found.where, found.causes) == (("byte 0xb",), ("host name",))
    assert "ccstore" in found.first
    assert "rebuild-1" in found.second


def test_other_numbers_are_nobodys(tmp_path: Path) -> None:
    first, second = (b"\x80\0" + struct.pack("<I", number) + bytes(9) for number in (77, 78))
    assert finding(tmp_path, first, second).causes == ()


def test_places_far_apart_are_told_apart(tmp_path: Path) -> None:
    first = bytes(3000)
    second = bytearray(first)
    second[10] = second[12] = second[2000] = 1
    assert [each.where for each in findings(tmp_path, first, bytes(second))] == [
        ("byte 0xa",),
        ("byte 0x7d0",),
    ]


def test_of_files_of_other_sizes_the_first_place_is_told(tmp_path: Path) -> None:
    found = findings(tmp_path, b"\0" * 10 + b"\1" + bytes(99), b"\0" * 10 + b"\2\2" + bytes(99))
    assert [each.where for each in found] == [("byte 0xa",)]
    [found_end] = findings(tmp_path, b"\0abc", b"\0abcdef")
    assert (found_end.where, found_end.first) == (("byte 0x4",), "(end of file)")
