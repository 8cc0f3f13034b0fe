"""narinfo: what a binary cache says of one store object, as Nix writes and reads it.

Source: Nix manual, "Binary cache"; lines as Nix 2.8 writes them, in its order:

    StorePath: /nix/store/<hash>-<name>
    URL: nar/<hash of the file, nix-base32>.nar.zst        relative to the cache
    Compression: zstd
    FileHash: sha256:<nix-base32>                          of the file behind URL; may be missing, as FileSize
    FileSize: <bytes>
    NarHash: sha256:<nix-base32>                           of the NAR itself
    NarSize: <bytes>
    References: <base names, separated by spaces>
    Deriver: <base name>                                   may be missing
    Sig: <key name>:<base64>                               any number; over the fingerprint of ccstore.codec.signing
    CA: fixed:r:sha256:<nix-base32>                        for content-addressed objects

The reader takes text of at most 1 MiB and refuses whatever is not of this form. Lines with keys that it does not know
are kept as they are, so that a signature can be added to what a newer Nix wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ccstore.codec.signing import fingerprint
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.signature import Signature, merged
from ccstore.model.storepath import LOGICAL_STORE, StorePath

MAX_SIZE = 1 << 20
SUFFIX = ".narinfo"
_MAX_NUMBER = 1 << 62
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_PART = r"(?!\.{1,2}(?:/|\?|$))[0-9A-Za-z+\-._=]{1,255}"
_URL = re.compile(rf"{_PART}(?:/{_PART}){{0,7}}(?:\?[0-9A-Za-z+\-._=&]{{1,255}})?")
_WORD = re.compile(r"[a-z0-9-]{1,32}")
_MANY = "Sig"
_KNOWN = frozenset(
    {
        *("StorePath", "URL", "Compression", "FileHash", "FileSize", "NarHash", "NarSize", "References"),
        *("Deriver", "CA", _MANY),
    }
)


@dataclass(frozen=True, slots=True)
class NarInfo:
    """`url` is relative to the cache. `file_hash` and `file_size` are of the compressed file; `other` has the lines
    with unknown keys."""

    object: ObjectInfo
    url: str
    compression: str
    file_hash: Sha256 | None = None
    file_size: int | None = None
    references: tuple[StorePath, ...] = ()
    deriver: str = ""
    signatures: tuple[Signature, ...] = ()
    ca: str = ""
    other: tuple[tuple[str, str], ...] = ()

    @property
    def is_content_addressed(self) -> bool:
        """Whether the store path follows from the content alone, as that of every object of ours does."""
        info = self.object
        return not self.references and info.path == StorePath.of_content(info.path.name, info.nar_hash)

    def fingerprint(self) -> bytes:
        """What its signatures are over."""
        info = self.object
        paths = [each.logical for each in self.references]
        return fingerprint(info.path.logical, info.nar_hash, info.nar_size, paths)

    def with_signatures(self, more: tuple[Signature, ...]) -> NarInfo:
        return replace(self, signatures=merged(self.signatures, more))

    def encode(self) -> bytes:
        return "".join(f"{key}: {value}\n" for key, value in self._lines()).encode()

    def _lines(self) -> Iterator[tuple[str, str]]:
        info = self.object
        yield "StorePath", info.path.logical
        yield "URL", self.url
        yield "Compression", self.compression
        if self.file_hash:
            yield "FileHash", f"sha256:{self.file_hash.nix32}"
        if self.file_size is not None:
            yield "FileSize", str(self.file_size)
        yield "NarHash", f"sha256:{info.nar_hash.nix32}"
        yield "NarSize", str(info.nar_size)
        yield "References", " ".join(each.base for each in self.references)
        if self.deriver:
            yield "Deriver", self.deriver
        for signature in self.signatures:
            yield "Sig", str(signature)
        if self.ca:
            yield "CA", self.ca
        yield from self.other


def content_address(nar_hash: Sha256) -> str:
    """The CA line of an object that is known by its NAR's hash."""
    return f"fixed:r:sha256:{nar_hash.nix32}"


def decode(data: bytes) -> NarInfo:
    """The narinfo that `data` is; raises ValueError."""
    if len(data) > MAX_SIZE:
        raise ValueError(f"it has {len(data)} bytes, more than {MAX_SIZE}")
    one, signatures, other = _sorted_lines(data.decode("ascii"))
    path, nar_hash = _path(_required(one, "StorePath")), _hash(_required(one, "NarHash"))
    url, compression = _required(one, "URL"), one.get("Compression", "bzip2")  # as Nix takes it
    if not _URL.fullmatch(url):
        raise ValueError(f"its URL {url[:200]!r} is not that of a file in the cache")
    if not _WORD.fullmatch(compression):
        raise ValueError(f"{compression[:100]!r} is no name of a compression")
    return NarInfo(
        object=ObjectInfo(path, nar_hash, _number(_required(one, "NarSize"))),
        url=url,
        compression=compression,
        file_hash=_hash(one["FileHash"]) if "FileHash" in one else None,
        file_size=_number(one["FileSize"]) if "FileSize" in one else None,
        references=tuple(StorePath.parse(each) for each in _words(one.get("References", ""))),
        deriver=one.get("Deriver", ""),
        signatures=tuple(Signature.parse(each) for each in signatures),
        ca=one.get("CA", ""),
        other=tuple(other),
    )


def _sorted_lines(text: str) -> tuple[dict[str, str], list[str], list[tuple[str, str]]]:
    """The lines by key, the signatures, and the lines with other keys."""
    if not text.endswith("\n"):
        raise ValueError("its last line is cut short")
    one: dict[str, str] = {}
    signatures: list[str] = []
    other: list[tuple[str, str]] = []
    for line in text[:-1].split("\n"):
        key, colon, value = line.partition(": ")
        if not colon or not _KEY.fullmatch(key) or not value.isprintable():
            raise ValueError(f"{line[:200]!r} is not `Key: value`")
        if key == _MANY:
            signatures.append(value)
        elif key not in _KNOWN:
            other.append((key, value))
        elif key in one:
            raise ValueError(f"it has two lines {key}")
        else:
            one[key] = value
    return one, signatures, other


def _required(one: Mapping[str, str], key: str) -> str:
    if key not in one:
        raise ValueError(f"it has no line {key}")
    return one[key]


def _path(text: str) -> StorePath:
    store, _, base = text.rpartition("/")
    if store != LOGICAL_STORE:
        raise ValueError(f"{text[:200]!r} is not in {LOGICAL_STORE}")
    return StorePath.parse(base)


def _hash(text: str) -> Sha256:
    if not text.startswith(("sha256:", "sha256-")):
        raise ValueError(f"{text[:100]!r} is no SHA-256")
    return Sha256.parse(text)


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 20 or str(int(text)) != text or int(text) > _MAX_NUMBER:
        raise ValueError(f"{text[:100]!r} is no number of bytes")
    return int(text)


def _words(text: str) -> list[str]:
    words = text.split(" ") if text else []
    for word in words:
        if "/" in word:
            raise ValueError(f"the reference {word[:200]!r} is not a base name")
    return words
