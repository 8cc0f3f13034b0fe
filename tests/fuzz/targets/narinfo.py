"""What a binary cache says of objects and realisations is refused with ValueError, or means the same written again.

The text is a narinfo; begun with `{"p` it is a DSSE envelope, else with `{` what a cache says of an output, with `K`
a public key, with `S` a signature.
"""

from __future__ import annotations

from pathlib import Path

from ccstore.codec import dsse, narinfo, statements
from ccstore.codec.signing import PublicKey, SecretKey, object_fingerprint, trusted
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import OutputId, Realisation
from ccstore.model.signature import Signature
from ccstore.model.storepath import StorePath
from tests.fuzz.target import Target

KEY = SecretKey("cache.example-1", bytes(range(32)))
DIGEST = Sha256(bytes(range(32)))
INFO = ObjectInfo(StorePath.of_content("a", DIGEST), DIGEST, 96)
SIGNED = KEY.sign(object_fingerprint(INFO))
OUTPUT = OutputId(64 * "0", "out")


def run(data: bytes, work: Path) -> bool:
    try:
        if data.startswith(b'{"p'):
            envelope = dsse.decode(data)
            assert dsse.decode(envelope.encode()) == envelope
        elif data.startswith(b"{"):
            found = statements.decode(data, OUTPUT)
            assert statements.decode(statements.encode(OUTPUT, found), OUTPUT) == found
        elif data.startswith(b"K"):
            text = data[1:].decode()
            assert str(PublicKey.parse(text)) == text
        elif data.startswith(b"S"):
            text = data[1:].decode()
            assert str(Signature.parse(text)) == text
        else:
            _narinfo(data)
    except ValueError:
        return False
    return True


def _narinfo(data: bytes) -> None:
    info = narinfo.decode(data)
    assert narinfo.decode(info.encode()) == info, "it changes when it is written"
    assert ".." not in info.url.split("/")
    assert not info.url.startswith("/")
    if trusted(info.signatures, [KEY.public], info.fingerprint()):
        assert info.object == INFO, "a signature holds for something else"


def _info(**more: object) -> bytes:
    given = {"object": INFO, "url": "nar/a.nar.zst", "compression": "zstd", "signatures": (SIGNED,), **more}
    return narinfo.NarInfo(**given).encode()  # type: ignore[arg-type]


REALISATION = Realisation(
    OUTPUT, INFO, (OutputId(64 * "1", "dev"),), "substituted", "sandbox", signatures=(SIGNED,)
)
TARGET = Target(
    run,
    seeds={
        "ours": _info(file_hash=DIGEST, file_size=90, ca=narinfo.content_address(DIGEST)),
        "theirs": _info(references=(INFO.path,), deriver="b.drv", other=(("New", "thing"),)),
        "realisations": statements.encode(OUTPUT, [REALISATION]),
        "envelope": dsse.Envelope("text/plain", b"text").signed(KEY).encode(),
        "key": b"K" + str(KEY.public).encode(),
        "signature": b"S" + str(SIGNED).encode(),
    },
    tokens=(b"StorePath: ", b"/nix/store/", b"URL: ", b"../", b"Compression: ", b"FileHash: sha256:", b"FileSize: ",
            b"NarHash: ", b"NarSize: ", b"References: ", b"Deriver: ", b"Sig: ", b"CA: ", b"sha256-", b"\r\n",
            b"1e999", b"NaN", b"[[[[", b'"narSize"', b'"inputs"', b"=="),
)  # fmt: skip
