"""Two trees or files to compare, made by a test, and what the comparison says of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ccstore.compare.findings import Circumstances, Difference, Finding, Span, Trace
from ccstore.compare.trees import Side, compare
from ccstore.model.objects import ObjectInfo
from ccstore.model.storepath import StorePath
from ccstore.store import canonical, files, manifest

Content = bytes | dict[str, "Content"]
BUILT, AGAIN = 1_700_000_000, 1_800_000_000
KNOWN = Circumstances(
    traces=(
        Trace("host name", ("ccstore",), ("rebuild-1",)),
        Trace("build path", ("/build",), ("/home/other/build",)),
        Trace("user and group", ("builder", "1000", "0001750"), ("rebuilder", "4242", "0010222")),
        Trace("umask", ("0022", "0644", "644"), ("0027", "0640", "640")),
        Trace("number of jobs", ("2", "-j2"), ("3", "-j3")),
        Trace("environment", only_second=("5eed5eed5eed5eed",)),
    ),
    first_time=Span(BUILT, BUILT + 60),
    second_time=Span(AGAIN, AGAIN + 60),
)


def write(path: Path, content: Content) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
        return
    path.mkdir()
    for name, each in content.items():
        write(path / name, each)


def side(place: Path) -> Side:
    """A file or folder as the store would know it."""
    scan = canonical.canonicalise(place)
    info = ObjectInfo(StorePath.of_content("x", scan.nar_hash), scan.nar_hash, scan.nar_size)
    record = place.with_name(f"{place.name}.manifest")
    record.write_bytes(manifest.encode(manifest.Header(info, 0), scan.records))
    return Side.of(place, manifest.read_entries(record))


def differences(
    tmp_path: Path,
    first: Content,
    second: Content,
    change: Callable[[Path, Path], None] = lambda one, other: None,
    known: Circumstances = KNOWN,
) -> list[Difference]:
    """What differs between the two, after `change` was told where they lie."""
    places = tmp_path / "first", tmp_path / "second"
    write(places[0], first)
    write(places[1], second)
    change(*places)
    try:
        return compare(side(places[0]), side(places[1]), known)
    finally:
        for place in places:
            files.remove(place)


def findings(tmp_path: Path, first: bytes, second: bytes, known: Circumstances = KNOWN) -> list[Finding]:
    """What a comparison of two files finds."""
    [difference] = differences(tmp_path, first, second, known=known)
    assert difference.path == ""
    return list(difference.findings)


def finding(tmp_path: Path, first: bytes, second: bytes, known: Circumstances = KNOWN) -> Finding:
    [found] = findings(tmp_path, first, second, known)
    return found
