"""What a store or a cache keeps of its objects is refused with ValueError, or written again as it was.

The first byte says which: a derivation (`D`), a realisation (`R`), a manifest of an object, compressed by the target
(`M`), a store path (`P`).
"""

from __future__ import annotations

from pathlib import Path

import zstandard

from ccstore.model.derivation import Derivation, FixedOutput, decode
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import OutputId, Realisation
from ccstore.model.storepath import StorePath
from ccstore.store import manifest
from tests.fuzz.target import Target

DIGEST = Sha256(bytes(range(32)))
PATH = StorePath.of_content("a", DIGEST)
INFO = ObjectInfo(PATH, DIGEST, 96)


def run(data: bytes, work: Path) -> bool:
    kind, text = data[:1], data[1:]
    try:
        if kind == b"D":
            assert decode(text).encode() == text, "another derivation was read than there is"
        elif kind == b"R":
            found = Realisation.from_json(text.decode())
            assert Realisation.from_json(found.to_json()) == found, "a realisation changes when it is written"
        elif kind == b"M":
            _manifest(text, work / "manifest")
        else:
            path = StorePath.parse(text.decode())
            assert StorePath.parse(str(path)) == path, "a store path changes when it is written"
    except ValueError:
        return False
    return True


def _manifest(text: bytes, file: Path) -> None:
    file.write_bytes(zstandard.compress(text, 1))
    manifest.read_header(file)
    for _ in manifest.read_entries(file):
        pass


def _records() -> bytes:
    records = [
        manifest.folder_record(b""),
        manifest.file_record(b"a", 3, True, bytes(48)),
        manifest.link_record(b"b", b"a"),
    ]
    return zstandard.decompress(manifest.encode(manifest.Header(INFO, 1), records))


BUILD = Derivation(
    "a", ("/bin/sh", "-c", "true"), DIGEST, {"x": DIGEST}, {"s": "t"}, {"A": "b"}, outputs=("out", "dev")
)
REALISATION = Realisation(OutputId(64 * "0", "out"), INFO, (OutputId(64 * "1", "dev"),))
TARGET = Target(
    run,
    seeds={
        "derivation": b"D" + BUILD.encode(),
        "fixed": b"D" + FixedOutput("a", "flat", DIGEST).encode(),
        "realisation": b"R" + REALISATION.to_json().encode(),
        "manifest": b"M" + _records(),
        "path": b"P" + str(PATH).encode(),
    },
    tokens=(b"d", b"e", b"l", b"i0e", b"0:", b"1:a", b"99999999999999999999:", b"i-0e", b'"narSize":', b"1e999",
            b"\\ud800", b"NaN", b"null", b"[", b"{", b"built", b"clean", b"nar", b"oci"),
)  # fmt: skip
