"""What the makers of images share: the request, the tools, identifiers, and how a failure is reported.

Runs inside the sandbox (stdlib only). A request is the builder's file `image.json`:

    {"name": …, "format": …, "cmdline": …, "machine": "q35" | "microvm", "memory": "256M",
     "agent": null | "hyperstart", "maxSize": bytes | null}

Whatever a file system wants to be random (UUIDs, a hash seed, a salt) is taken from the SHA-256 of the root's tar
archive, so the same content gives the same image everywhere, and another content other identifiers.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

BUILD = Path("/build")
BLOCK = 4096  # bytes: of pages and of every file system here
MIB = 1 << 20


def fail(code: str, message: str, *, hint: str = "", details: tuple[str, ...] = ()) -> NoReturn:
    """Ends the build with an error that ccstore shows as its own."""
    print("\n".join([message, *details]), file=sys.stderr)
    report = {"code": code, "message": message, "details": list(details), "hint": hint or None}
    Path(os.environ["CCSTORE_REPORT"]).write_text(json.dumps(report))
    sys.exit(1)


def epoch() -> int:
    """Every time in an image: SOURCE_DATE_EPOCH, in seconds since 1970."""
    return int(os.environ["SOURCE_DATE_EPOCH"])


def tool(*argv: str | Path, env: dict[str, str] | None = None, quiet: bool = False) -> str:
    """What a tool prints, which also goes to the log unless `quiet`. Ends the build if the tool fails."""
    words = [str(word) for word in argv]
    done = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        errors="backslashreplace",
        check=False,
        env={**os.environ, **(env or {})},
    )
    if done.returncode or not quiet:
        sys.stderr.write(done.stdout)
    if done.returncode:
        sys.exit(f"error: {words[0]} failed with exit status {done.returncode}")
    return done.stdout


@dataclass(frozen=True)
class Root:
    """The root file system to put into an image, as a tar archive."""

    archive: Path
    digest: str  # SHA-256 of the archive

    @classmethod
    def read(cls, archive: Path) -> Root:
        with archive.open("rb") as file:
            return cls(archive, hashlib.file_digest(file, "sha256").hexdigest())

    def bytes_for(self, purpose: str) -> bytes:
        """32 bytes that belong to this content and this purpose."""
        return hashlib.sha256(f"ccstore {purpose} {self.digest}".encode()).digest()

    def uuid_for(self, purpose: str) -> str:
        # version 8 of RFC 9562: made as the maker likes
        raw = bytearray(self.bytes_for(purpose)[:16])
        raw[6] = raw[6] & 0x0F | 0x80
        raw[8] = raw[8] & 0x3F | 0x80
        return str(uuid.UUID(bytes=bytes(raw)))


def in_root(root: Root, *argv: str | Path, env: dict[str, str] | None = None) -> None:
    """Runs `argv` under fakeroot, where the root is unpacked at TREE."""
    script = Path(__file__).with_name("image_tree.py")
    # the sandbox has one user: chown to another is EINVAL there, where fakeroot expects EPERM
    env = {**(env or {}), "FAKEROOTDONTTRYCHOWN": "1"}
    tool("fakeroot", "--", sys.executable, script, root.archive, TREE, *argv, env=env)


TREE = BUILD / "root"


def round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def copy_into(image: Path, offset: int, part: Path) -> None:
    """Writes the file `part` at `offset` of `image`; blocks of zeros become holes."""
    with image.open("r+b") as target, part.open("rb") as source:
        while chunk := source.read(MIB):
            if chunk.strip(b"\0"):
                target.seek(offset)
                target.write(chunk)
            offset += len(chunk)
