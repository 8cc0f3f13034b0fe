"""A Debian package is refused (`archive-refused`, `output-invalid`), or becomes a tree of files, folders and links.

The fuzzer's text is a whole package, or (begun with `T`, `G`, `X` or `Z`) the tar archive of its data, which is
then packed without compression, by gzip, xz or zstd.
"""

from __future__ import annotations

import lzma
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ccstore.debian import package
from ccstore.debian.unpack import debian_tree
from ccstore.errors import CcError
from ccstore.ports import Cancel
from tests.builders.tars import file, folder, tar
from tests.debian.debs import COMPRESSIONS, deb, write_debs
from tests.fuzz.mend import tar_headers
from tests.fuzz.target import Target
from tests.fuzz.targets import tar as tar_target

# what a compressor takes is not the reader's
PACK: dict[str, Callable[[bytes], bytes]] = {**COMPRESSIONS, ".xz": partial(lzma.compress, preset=0)}
MODES = {b"T": "", b"G": ".gz", b"X": ".xz", b"Z": ".zst"}
LIMIT = 1 << 20  # bytes unpacked
REFUSALS = ("archive-refused", "output-invalid")


def run(data: bytes, work: Path) -> bool:
    suffix = MODES.get(data[:1])
    whole = data if suffix is None else deb("fuzz", (), compression=suffix, packed=PACK[suffix](data[1:]))
    inputs = write_debs(work / "debs", {"fuzz": whole})
    package.MAX_UNPACKED = package.MAX_CONTROL = LIMIT  # a bomb is small here
    try:
        debian_tree(inputs, {"links": ""}, work / "tree", Cancel())
    except CcError as error:
        if error.code not in REFUSALS:
            raise
        return False
    _check(os.fsencode(work / "tree"))
    return True


def _check(folder: bytes) -> None:
    for entry in os.scandir(folder):
        mode = entry.stat(follow_symlinks=False).st_mode
        assert stat.S_IFMT(mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK), "a special file was made"
        assert not mode & 0o7000, "a set-uid bit was kept"
        if entry.is_dir(follow_symlinks=False):
            _check(entry.path)


def _mend(data: bytes) -> bytes:
    return data[:1] + tar_headers(data[1:]) if data[:1] in MODES else data


_ENTRIES = [folder("usr/"), folder("usr/bin/"), file("./usr/bin/tool", b"#!"), file("bin/sh", b"x")]
TARGET = Target(
    run,
    seeds={f"whole{name}": deb("fuzz", _ENTRIES, compression=name) for name in COMPRESSIONS}
    | {f"data-{name}": b"T" + data for name, data in tar_target.SEEDS.items()}
    | {f"packed{MODES[mode]}": mode + tar(_ENTRIES) for mode in MODES},
    tokens=(*tar_target.TARGET.tokens, b"!<arch>\n", b"data.tar", b"control.tar", b"`\n", b".zst", b".lzma",
            b"lib64/", b"etc/passwd", b"var/lib/dpkg/status", b"//", b"#1/20"),
    max_size=8192,
    mend=_mend,
)  # fmt: skip
