"""NARs against a real Nix: committed goldens always, a live one where it is installed."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import shutil
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccstore.codec import nar, nar_read
from ccstore.errors import CcError
from ccstore.store.files import remove
from tests.codec.trees import GOLDEN, TREES, nix
from tests.conftest import needs

needs_nix = needs("nix-store")


def dumped(path: Path) -> bytes:
    sink = io.BytesIO()
    nar.dump(path, sink.write)
    return sink.getvalue()


@pytest.mark.parametrize("name", TREES)
def test_dump_equals_what_nix_wrote(name: str, tmp_path: Path) -> None:
    TREES[name](tmp_path / name)
    golden = (GOLDEN / f"{name}.nar").read_bytes()
    assert dumped(tmp_path / name) == golden
    digest, size = nar.nar_hash(tmp_path / name)
    assert digest.digest == hashlib.sha256(golden).digest()
    assert size == len(golden)


@pytest.mark.parametrize("name", TREES)
def test_unpack_gives_back_the_tree(name: str, tmp_path: Path) -> None:
    golden = (GOLDEN / f"{name}.nar").read_bytes()
    nar_read.unpack(io.BytesIO(golden), tmp_path / "unpacked")
    assert dumped(tmp_path / "unpacked") == golden


@needs_nix
@pytest.mark.parametrize("name", TREES)
def test_a_live_nix_agrees(name: str, tmp_path: Path) -> None:
    TREES[name](tmp_path / name)
    assert nix(tmp_path, "nix-store", "--dump", str(tmp_path / name)) == dumped(tmp_path / name)
    printed = nix(tmp_path, "nix", "hash", "path", str(tmp_path / name)).decode().strip()
    assert printed == nar.nar_hash(tmp_path / name)[0].sri


def test_large_files_are_read_in_pieces(tmp_path: Path) -> None:
    data = os.urandom(nar.CHUNK * 3 + 5)
    (tmp_path / "large").write_bytes(data)
    expected = nar.MAGIC + nar.file_head(len(data), False) + data + nar.file_tail(len(data))
    assert dumped(tmp_path / "large") == expected
    nar_read.unpack(io.BytesIO(expected), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == data


def test_depth_is_not_bounded_by_the_interpreter(tmp_path: Path) -> None:
    deep = tmp_path / "t"
    deep.mkdir()
    inner = str(deep)
    for _ in range(1300):
        inner += "/d"
        os.mkdir(inner)  # noqa: PTH102
    data = dumped(deep)
    nar_read.unpack(io.BytesIO(data), tmp_path / "u")
    assert dumped(tmp_path / "u") == data
    for tree in (deep, tmp_path / "u"):
        remove(tree)  # pytest's own removal would recurse


def test_a_deep_nar_needs_no_more_open_files_than_a_flat_one(tmp_path: Path) -> None:
    data = nar.MAGIC + nested(600)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    try:
        nar_read.unpack(io.BytesIO(data), tmp_path / "u")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert dumped(tmp_path / "u") == data


def test_a_folder_that_is_moved_meanwhile_is_noticed(tmp_path: Path) -> None:
    """What comes after it in the NAR would be made beside the tree."""

    class Moving(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if (tmp_path / "u/d").exists():
                (tmp_path / "u/d").rename(tmp_path / "elsewhere")
            return super().read(256)

    data = nar.MAGIC + folder_node(
        entry(b"d", folder_node(entry(b"a", file_node(bytes(300))))), entry(b"e", file_node())
    )
    with pytest.raises(CcError) as caught:
        nar_read.unpack(Moving(data), tmp_path / "u")
    assert caught.value.code == "file-changed"
    assert {each.name for each in tmp_path.iterdir()} == {"u", "elsewhere"}


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_special_files_are_refused_and_not_opened(kind: str, inside: bool, tmp_path: Path) -> None:
    tree = tmp_path / "t"
    tree.mkdir()
    special = tree / "x"
    if kind == "fifo":
        os.mkfifo(special)  # opening it for reading would wait for ever
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(special))
    with pytest.raises(CcError) as caught:
        nar.nar_hash(tree if inside else special)
    assert caught.value.code == "nar-invalid"
    assert caught.value.where == str(special)


def test_a_file_that_grows_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x" * (nar.CHUNK + 1))
    pieces = nar.Walk(file).pieces()
    next(pieces)
    next(pieces)
    with file.open("ab") as more:
        more.write(b"y")
    with pytest.raises(CcError) as caught:
        list(pieces)
    assert caught.value.code == "file-changed"


def test_an_error_on_the_way_ends_the_hashing_thread(tmp_path: Path) -> None:
    import threading

    before = threading.active_count()
    with pytest.raises(FileNotFoundError):
        nar.nar_hash(tmp_path / "nothing")
    assert threading.active_count() == before


_names = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda name: name not in (".", ".."))
_leaves = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=40), st.booleans()),
    st.tuples(st.just("link"), st.text("abc./", min_size=1, max_size=20)),
)
_trees = st.recursive(_leaves, lambda node: st.dictionaries(_names, node, max_size=4), max_leaves=12)


def build(node: object, at: Path) -> None:
    if isinstance(node, dict):
        at.mkdir()
        for name, child in node.items():
            build(child, at / name)
    elif isinstance(node, tuple) and node[0] == "file":
        at.write_bytes(node[1])
        at.chmod(0o755 if node[2] else 0o644)
    elif isinstance(node, tuple):
        at.symlink_to(node[1])


@settings(max_examples=60, deadline=None)
@given(_trees)
def test_unpacking_a_dump_gives_the_same_dump(tmp_path_factory: pytest.TempPathFactory, node: object) -> None:
    folder = tmp_path_factory.mktemp("tree")
    build(node, folder / "a")
    data = dumped(folder / "a")
    nar_read.unpack(io.BytesIO(data), folder / "b")
    assert dumped(folder / "b") == data
    shutil.rmtree(folder)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_nar_is_refused_or_means_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    golden = bytearray((GOLDEN / "nested.nar").read_bytes())
    place = data.draw(st.integers(0, len(golden) - 1))
    golden[place] ^= data.draw(st.integers(1, 255))
    folder = tmp_path_factory.mktemp("tree")
    code = None
    try:
        nar_read.unpack(io.BytesIO(bytes(golden)), folder / "b")
    except CcError as error:
        code = error.code
    assert code == "nar-invalid" or dumped(folder / "b") == bytes(golden)
    shutil.rmtree(folder)


def entry(name: bytes, node: bytes) -> bytes:
    return nar.ENTRY + nar.string(name) + nar.NODE + node + nar.CLOSE


def file_node(data: bytes = b"evil") -> bytes:
    return nar.file_head(len(data), False) + data + nar.file_tail(len(data))


def nested(depth: int) -> bytes:
    """Folders in one another."""
    return (
        (nar.DIRECTORY + nar.ENTRY + nar.string(b"d") + nar.NODE) * depth
        + folder_node()
        + 2 * nar.CLOSE * depth
    )


def folder_node(*entries: bytes) -> bytes:
    return nar.DIRECTORY + b"".join(entries) + nar.CLOSE


def link_node(target: bytes) -> bytes:
    return nar.SYMLINK + nar.string(target) + nar.CLOSE


GOOD = nar.MAGIC + folder_node(entry(b"a", file_node()), entry(b"b", link_node(b"a")))
MALFORMED = {
    "empty": b"",
    "not a nar": b"PK\x03\x04" * 100,
    "other magic": nar.string(b"nix-archive-2") + file_node(),
    "cut short": GOOD[:-8],
    "cut short in a file": nar.MAGIC + nar.file_head(1000, False) + b"only this",
    "bytes after the end": GOOD + bytes(8),
    "parent": nar.MAGIC + folder_node(entry(b"..", file_node())),
    "self": nar.MAGIC + folder_node(entry(b".", file_node())),
    "no name": nar.MAGIC + folder_node(entry(b"", file_node())),
    "slash": nar.MAGIC + folder_node(entry(b"../evil", file_node())),
    "absolute": nar.MAGIC + folder_node(entry(b"/tmp/evil", file_node())),
    "nul": nar.MAGIC + folder_node(entry(b"a\0b", file_node())),
    "long name": nar.MAGIC + folder_node(entry(b"a" * 256, file_node())),
    "twice": nar.MAGIC + folder_node(entry(b"a", link_node(b"/tmp")), entry(b"a", file_node())),
    "through a link": nar.MAGIC
    + folder_node(entry(b"a", link_node(b"..")), entry(b"a", folder_node(entry(b"evil", file_node())))),
    "not sorted": nar.MAGIC + folder_node(entry(b"b", file_node()), entry(b"a", file_node())),
    "unknown type": nar.MAGIC + nar.OPEN + nar.string(b"fifo") + nar.CLOSE,
    "empty link": nar.MAGIC + link_node(b""),
    "link with nul": nar.MAGIC + link_node(b"a\0b"),
    "long link": nar.MAGIC + link_node(b"a" * 4096),
    "padding": nar.MAGIC + nar.file_head(4, False) + b"evil" + b"\1\0\0\0" + nar.CLOSE,
    "huge string": nar.MAGIC + nar.OPEN + b"\xff" * 8,
    "executable with a value": nar.MAGIC
    + nar.OPEN
    + nar.string(b"regular")
    + nar.string(b"executable")
    + nar.string(b"yes")
    + nar.string(b"contents")
    + nar.string(b"")
    + nar.CLOSE,
}


def test_the_pieces_of_the_malformed_ones_are_good(tmp_path: Path) -> None:
    nar_read.unpack(io.BytesIO(GOOD), tmp_path / "t")
    assert (tmp_path / "t/a").read_bytes() == b"evil"


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_input_is_refused_and_stays_inside(name: str, tmp_path: Path) -> None:
    inside = tmp_path / "jail" / "inside"
    inside.mkdir(parents=True)
    with pytest.raises(CcError) as caught:
        nar_read.unpack(io.BytesIO(MALFORMED[name]), inside / "target")
    assert caught.value.code == "nar-invalid"
    assert [path.name for path in tmp_path.iterdir()] == ["jail"]
    assert [path.name for path in (tmp_path / "jail").iterdir()] == ["inside"]
    assert {path.name for path in inside.iterdir()} <= {"target"}


def test_an_existing_target_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "t").symlink_to("elsewhere")
    with pytest.raises(FileExistsError):
        nar_read.unpack(io.BytesIO(nar.MAGIC + file_node()), tmp_path / "t")
    assert [path.name for path in tmp_path.iterdir()] == ["t"]
