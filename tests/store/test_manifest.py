"""Manifests that are none: what is wrong with them is said, whatever it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import zstandard

from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.storepath import StorePath
from ccstore.store import manifest

DIGEST = Sha256(bytes(32))
INFO = ObjectInfo(StorePath.of_content("a", DIGEST), DIGEST, 96)
RECORDS = [
    manifest.folder_record(b""),
    manifest.file_record(b"a", 3, True, bytes(48)),
    manifest.link_record(b"b", b"a"),
]


def written(folder: Path, old: bytes = b"", new: bytes = b"") -> Path:
    """The manifest with `old` in it replaced by `new`."""
    text = zstandard.decompress(manifest.encode(manifest.Header(INFO, 7), RECORDS))
    assert old in text
    (folder / "manifest").write_bytes(zstandard.compress(text.replace(old, new)))
    return folder / "manifest"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = written(tmp_path)
    assert manifest.read_header(file) == manifest.Header(INFO, 7)
    assert [each.path for each in manifest.read_entries(file)] == ["", "a", "b"]


@pytest.mark.parametrize("value", [b"1e999", b"NaN", b"null", b"[]", b'"x"', b"[" * 5000])
def test_a_header_that_is_none(value: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        manifest.read_header(written(tmp_path, b": 7}", b": " + value + b"}"))


@pytest.mark.parametrize("size", [2, 1 << 33, 1 << 63, (1 << 64) - 1])
def test_a_record_that_claims_more_than_there_is(size: int, tmp_path: Path) -> None:
    file = written(tmp_path, b"l" + (1).to_bytes(4, "little") + (1).to_bytes(8, "little"),
                   b"l" + (1).to_bytes(4, "little") + size.to_bytes(8, "little"))  # fmt: skip
    with pytest.raises(ValueError, match="cut short"):
        list(manifest.read_entries(file))
