"""From a tree to a compressed NAR, in one pass and constant memory.

The walk of the tree, the hash of the NAR, the compression and the hash of what comes out each have a thread of
their own (zstd as many as there are processors): none of them holds Python's lock for long.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ccstore.codec.compression import compressor
from ccstore.codec.nar import Hasher, Walk, chunks
from ccstore.model.hashes import Sha256

SMALL = 8 << 20  # bytes of a NAR for which threads of zstd are not worth it


@dataclass(frozen=True, slots=True)
class Packing:
    """How NARs are compressed; `level` None: the method's usual one."""

    method: str = "zstd"
    level: int | None = None


DEFAULT = Packing()


@dataclass(frozen=True, slots=True)
class Packed:
    """The hashes and lengths of a NAR and of the file that it is in."""

    nar_hash: Sha256
    nar_size: int
    file_hash: Sha256
    file_size: int


def pack(
    tree: Path,
    nar_size: int,
    packing: Packing,
    write: Callable[[bytes], object],
    progress: Callable[[int], None],
) -> Packed:
    """Writes the compressed NAR of `tree`, which is about `nar_size` bytes, in pieces to `write`.

    `progress` hears how many bytes of the NAR are done. Raises as `ccstore.codec.nar.Walk` does.
    """
    threads = 0 if nar_size < SMALL else os.cpu_count() or 1
    stream = compressor(packing.method, packing.level, threads)
    done = 0
    with Hasher() as before, Hasher() as after:

        def out(data: bytes) -> None:
            if data:
                after.feed(data)
                write(data)

        for chunk in chunks(Walk(tree).pieces()):
            before.feed(chunk)
            out(stream.compress(chunk))
            done += len(chunk)
            progress(done)
        out(stream.flush())
        return Packed(*before.result(), *after.result())
