"""Archives that come back: nothing in them leads out of the outputs, and nothing is written below a link."""

from __future__ import annotations

import io
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccstore.errors import CcError
from ccstore.executor.outputs import Output
from ccstore.executor.unpacking import first_member, unpack
from ccstore.store.overlay import complete

from .conftest import Builds, PlainTree


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.mode = kind, target, mode
    return found


FOLDER, LINK, HARD = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def archive(*members: tarfile.TarInfo, content: bytes = b"x") -> list[bytes]:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", errors="surrogateescape") as tar:
        for each in members:
            if each.isreg():
                each.size = len(content)
            tar.addfile(each, io.BytesIO(content))
    found = data.getvalue()
    return [found[i : i + 700] for i in range(0, len(found), 700)]


def listed(place: Path) -> dict[str, str]:
    return {entry.path: entry.type for entry in PlainTree(place).entries()}


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([member("out/..", FOLDER)], id="the parent as an output"),
        pytest.param([member("out/a", FOLDER), member("out/a/..", FOLDER)], id="the parent of an output"),
        pytest.param([member("out/a", FOLDER), member("out/a/../b")], id="beside an output"),
        pytest.param([member("out/a", FOLDER), member("out/a/./b")], id="a dot"),
        pytest.param([member("out/a/b")], id="no folder before its file"),
        pytest.param([member("out/a", LINK, "/"), member("out/a/etc", FOLDER)], id="below a link"),
        pytest.param([member("out/a", LINK, ".."), member("out/a/b")], id="below a relative link"),
        pytest.param([member("out/a"), member("out/a/b")], id="below a file"),
        pytest.param([member("out/a", FOLDER), member("out/a/b"), member("out/a/b/c")], id="below a file inside"),
        pytest.param([member("out/a", HARD, "etc/passwd")], id="a hard link to the host"),
        pytest.param([member("out/a", HARD, "out/../../x")], id="a hard link that leads out"),
        pytest.param([member("out/a", HARD, "out/a/../../x")], id="a hard link that leads out later"),
    ],
)  # fmt: skip
def test_names_that_lead_out_are_refused(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    place = tmp_path / "inner/place"
    place.mkdir(parents=True)
    (tmp_path / "inner/x").write_text("outside")
    with pytest.raises(CcError) as caught:
        unpack(archive(member("out", FOLDER), *members), place, {})
    assert caught.value.code == "output-invalid"
    assert set(listed(tmp_path)) <= {
        "",
        "inner",
        "inner/x",
        "inner/place",
        "inner/place/a",
        "inner/place/a/b",
    }


def test_a_name_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        unpack(archive(member("out", FOLDER), member("out/a"), member("out/a")), tmp_path, {})


@pytest.mark.parametrize("cut", [0, 100, 512, 600, 1100, 1600, 2048])
def test_an_archive_that_is_cut_short(tmp_path: Path, cut: int) -> None:
    whole = b"".join(archive(member("out", FOLDER), member("out/a"), content=b"y" * 600))
    with pytest.raises(CcError) as caught:
        unpack([whole[:cut]], tmp_path, {})
    assert caught.value.code == "no-docker"


@given(st.binary(max_size=3000))
def test_nonsense_is_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    place = tmp_path_factory.mktemp("nonsense")
    try:
        unpack([data], place, {})
    except CcError:
        return
    assert listed(place) == {"": "directory"}


def test_a_hard_link_is_a_copy(tmp_path: Path) -> None:
    unpack(
        archive(member("out", FOLDER), member("out/a"), member("out/b", HARD, "out/a", 0o755)), tmp_path, {}
    )
    assert (tmp_path / "b").read_text() == "x"
    assert (tmp_path / "a").stat().st_nlink == 1


def test_what_is_no_file_is_there_for_registration_to_refuse(tmp_path: Path) -> None:
    members = [member("out/a", tarfile.FIFOTYPE), member("out/b", tarfile.CHRTYPE)]
    unpack(archive(member("out", FOLDER), *members), tmp_path, {})
    assert (tmp_path / "a").is_fifo()
    assert (tmp_path / "b").is_char_device()


def test_the_first_member_alone_and_no_more_of_it(tmp_path: Path) -> None:
    first_member(archive(member("a"), member("b"), content=b"z" * 5000), tmp_path / "copy", 1000)
    assert (tmp_path / "copy").read_bytes() == b"z" * 1000
    first_member(archive(member("a", LINK, "/etc/passwd")), tmp_path / "link", 1000)
    assert (tmp_path / "link").is_symlink()


def test_an_upper_folder_is_made_by_anyone(builds: Builds) -> None:
    """What is gone is marked by a device that an ordinary user may make too."""
    base = builds.tree("base", {"a/b": "1", "a/c": "2", "d": "3", "e/f": "4"})
    upper = builds.place / "upper"
    output = Output(upper, base)
    output.folder("")
    output.folder("a")
    assert output.candidate("a/b", True, 1) is None  # it was no program
    assert output.candidate("a/b", False, 1)
    output.unchanged("a/b")
    with output.file("e", False) as file:
        file.write(b"5")
    output.finish()
    assert {path.name: stat.S_ISCHR(path.lstat().st_mode) for path in upper.rglob("*")} == {
        "a": False,
        "c": True,
        "d": True,
        "e": False,
    }
    complete(upper, base.path, base.entries())
    assert listed(upper) == {"": "directory", "a": "directory", "a/b": "file", "e": "file"}
    assert (upper / "a/b").samefile(base.path / "a/b")


def test_a_large_file_is_compared_too(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccstore.executor.unpacking._IN_MEMORY", 1)
    base = builds.tree("base", {"same": "12", "other": "34"})
    members = [member("out", FOLDER), member("out/a", FOLDER), member("out/a/other"), member("out/a/same")]
    place = builds.place / "place"
    place.mkdir()
    unpack(archive(*members, content=b"12"), place, {"a": base})
    assert (place / "a/other").read_text() == "12"
    assert not (place / "a/same").exists()


def test_an_output_that_began_as_an_input_stays_a_folder(builds: Builds) -> None:
    base = builds.tree("base", {"a": "1"})
    place = builds.place / "place"
    place.mkdir()
    with pytest.raises(CcError) as caught:
        unpack(archive(member("out", FOLDER), member("out/o")), place, {"o": base})
    assert caught.value.code == "output-invalid"
