"""narinfo files: those that a real Nix wrote, any that can be, and what is refused."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccstore.codec import narinfo
from ccstore.codec.compression import decompressed
from ccstore.codec.nar import nar_hash
from ccstore.codec.nar_read import unpack
from ccstore.codec.narinfo import NarInfo
from ccstore.codec.signing import PublicKey, SecretKey, trusted
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.signature import Signature
from ccstore.model.storepath import StorePath

GOLDEN = Path(__file__).with_name("golden") / "nix-cache"  # by `nix copy --to file://…`, Nix 2.8
COMPRESSIONS = ("none", "xz", "zstd", "bzip2", "gzip")
KEY = PublicKey.parse("cache.example.org-1:D+o533jqqLIqrS20F7hp0eUtPkuyxSqnUWAdsaWMdeQ=")
TREE = (GOLDEN / "zstd.narinfo").read_bytes()

digests = st.binary(min_size=32, max_size=32).map(Sha256)
sizes = st.integers(0, 1 << 50)
names = st.from_regex(r"[0-9a-z+\-_][0-9a-z+\-._?=]{0,30}", fullmatch=True)
paths = st.builds(StorePath.of_content, names, digests)
words = st.from_regex(r"[0-9a-z][0-9a-z_-]{0,20}", fullmatch=True)
signatures = st.builds(Signature, words, st.binary(min_size=64, max_size=64))
values = st.from_regex(r"[!-~]([ -~]{0,30}[!-~])?", fullmatch=True)
narinfos = st.builds(
    NarInfo,
    object=st.builds(ObjectInfo, paths, digests, sizes),
    url=st.builds("nar/{}.nar.{}".format, words, words),
    compression=st.sampled_from([*COMPRESSIONS, "br"]),
    file_hash=st.none() | digests,
    file_size=st.none() | sizes,
    references=st.lists(paths, max_size=3).map(tuple),
    deriver=st.just("") | values,
    signatures=st.lists(signatures, max_size=3).map(tuple),
    ca=st.just("") | values,
    other=st.lists(st.tuples(st.from_regex(r"X-[A-Za-z0-9]{1,8}", fullmatch=True), values), max_size=2).map(
        tuple
    ),
)


@pytest.mark.parametrize("name", [*COMPRESSIONS, "refers"])
def test_what_nix_wrote_is_read_and_written_back(name: str) -> None:
    data = (GOLDEN / f"{name}.narinfo").read_bytes()
    found = narinfo.decode(data)
    assert found.encode() == data
    assert found.is_content_addressed == (name != "refers")
    assert trusted(found.signatures, [KEY], found.fingerprint()) == found.signatures[0]


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_the_nar_that_nix_compressed_is_read(name: str, tmp_path: Path) -> None:
    found = narinfo.decode((GOLDEN / f"{name}.narinfo").read_bytes())
    data = (GOLDEN / f"{name}.nar").read_bytes()
    assert (found.file_hash, found.file_size) == (Sha256.of(data), len(data))
    unpack(decompressed(io.BytesIO(data), found.compression), tmp_path / "tree")
    assert nar_hash(tmp_path / "tree") == (found.object.nar_hash, found.object.nar_size)
    assert found.ca == narinfo.content_address(found.object.nar_hash)


@given(narinfos)
def test_what_is_written_is_read_back(info: NarInfo) -> None:
    assert narinfo.decode(info.encode()) == info


@given(st.binary(max_size=300) | st.text("\nSig: StorePath/nix-123=", max_size=300).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        narinfo.decode(data)


@given(st.integers(0, len(TREE) - 1), st.integers(0, 255))
def test_a_changed_byte_is_noticed_or_is_what_it_says(at: int, byte: int) -> None:
    """No byte of the text is ignored: what is still read is written as it was read."""
    data = TREE[:at] + bytes([byte]) + TREE[at + 1 :]
    try:
        found = narinfo.decode(data)
    except ValueError:
        return
    assert set(data.splitlines()) <= set(found.encode().splitlines())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"StorePath: /nix/store/", b"StorePath: /gnu/store/"),
        (b"StorePath: /nix/store/", b"StorePath: /nix/store/x/"),
        (b"StorePath: /nix/store/", b"StorePath: "),
        (b"StorePath", b"storepath"),
        (b"URL: nar/", b"URL: /nar/"),
        (b"URL: nar/", b"URL: ../nar/"),
        (b"URL: nar/", b"URL: nar/../"),
        (b"URL: nar/", b"URL: nar//"),
        (b"URL: nar/", b"URL: https://elsewhere.example.org/"),
        (b"URL: nar/", b"URL: file:/nar/"),
        (b"URL: nar/", b"URL: nar/%2e%2e/"),
        (b"NarSize: 880", b"NarSize: -1"),
        (b"NarSize: 880", b"NarSize: 0880"),
        (b"NarSize: 880", b"NarSize: 8" + b"0" * 30),
        (b"NarSize: 880", b"NarSize: \xd9\xa1"),
        (b"NarSize: 880\n", b""),
        (b"NarSize: 880\n", b"NarSize: 880\nNarSize: 880\n"),
        (b"NarHash: sha256:", b"NarHash: md5:"),
        (b"NarHash: sha256:", b"NarHash: "),
        (b"Compression: zstd", b"Compression: ../zstd"),
        (b"References: ", b"References: x"),
        (b"References: ", b"References:  "),
        (b"Sig: cache", b"Sig: ca che"),
        (b"Sig: ", b"Sig: :"),
        (b"CA: ", b"CA:"),
        (b"CA: ", b"C A: "),
        (b"CA: ", b"CA: \x1b[2J"),
        (b"\nCA: ", b"\r\nCA: "),
        (b"\nCA: ", b"\n\nCA: "),
    ],
)
def test_what_is_refused(old: bytes, new: bytes) -> None:
    assert TREE.count(old) >= 1
    with pytest.raises(ValueError):
        narinfo.decode(TREE.replace(old, new, 1))


def test_it_is_bounded() -> None:
    with pytest.raises(ValueError, match="more than"):
        narinfo.decode(TREE + b"X: y\n" * narinfo.MAX_SIZE)
    with pytest.raises(ValueError, match="cut short"):
        narinfo.decode(TREE[:-1])


def test_the_compression_is_bzip2_if_it_is_not_said() -> None:
    assert narinfo.decode(TREE.replace(b"Compression: zstd\n", b"")).compression == "bzip2"


def test_signatures_are_merged() -> None:
    found, key = narinfo.decode(TREE), SecretKey.generate("another-1")
    own = key.sign(found.fingerprint())
    both = found.with_signatures((own,)).with_signatures((own,))
    assert set(both.signatures) == {*found.signatures, own}
    assert replace(both, signatures=found.signatures) == found
    assert narinfo.decode(both.encode()) == both
