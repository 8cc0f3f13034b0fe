"""Roots of guests for tests: what guest_root would give, with everything in it that a host cannot hold."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One entry of a root; `device` is (major, minor), `link` the text of a link."""

    name: str
    kind: bytes = tarfile.REGTYPE
    content: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    link: str = ""
    device: tuple[int, int] = (0, 0)

    def info(self) -> tarfile.TarInfo:
        info = tarfile.TarInfo(self.name)
        info.type, info.mode, info.uid, info.gid = self.kind, self.mode, self.uid, self.gid
        info.size, info.linkname, info.mtime = len(self.content), self.link, 1
        info.devmajor, info.devminor = self.device
        return info


def folder(name: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Entry:
    return Entry(name, tarfile.DIRTYPE, mode=mode, uid=uid, gid=gid)


ODD = (
    folder("odd", 0o2750, 7, 70001),
    Entry("odd/a name with  spaces", content=b"spaces\n", mode=0o600, uid=1000, gid=1001),
    Entry("odd/block", tarfile.BLKTYPE, mode=0o660, gid=6, device=(8, 17)),
    Entry("odd/char", tarfile.CHRTYPE, mode=0o666, device=(1, 3)),
    Entry("odd/empty", mode=0o000),
    Entry("odd/fifo", tarfile.FIFOTYPE, mode=0o640),
    Entry("odd/large", content=bytes(range(256)) * 1000 + bytes(100_000), uid=300_000, gid=4_000_000_000),
    Entry("odd/" + "long" * 60, content=b"long name\n"),
    Entry("odd/not-utf8-\udcff\udc80", content=b"bytes\n"),
    Entry("odd/secret", content=b"secret\n", mode=0o600),
    Entry("odd/secret-link", tarfile.SYMTYPE, mode=0o777, link="secret"),
    Entry("odd/secret-link-again", tarfile.LNKTYPE, mode=0o777, link="odd/secret-link"),
    Entry("odd/su", content=b"#!/bin/sh\nid\n", mode=0o4755),
    Entry("odd/su-again", tarfile.LNKTYPE, mode=0o4755, link="odd/su"),
    Entry("odd/symlink", tarfile.SYMTYPE, mode=0o777, link="../a/target of " + "many " * 30 + "letters"),
    folder("odd/tmp", 0o1777),
    Entry("odd/tmp/su-elsewhere", tarfile.LNKTYPE, mode=0o4755, link="odd/su"),
)


def body_of(entry: Entry) -> Entry:
    """What an entry of ODD is a name of."""
    return {each.name: each for each in ODD}[entry.link] if entry.kind == tarfile.LNKTYPE else entry


def write_rootfs(to: Path, entries: Iterable[Entry], components: dict[str, int] | None = None) -> Path:
    """Writes the folder that the step `rootfs` gives."""
    to.mkdir(parents=True)
    with tarfile.open(to / "rootfs.tar", "w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        for entry in sorted(entries, key=lambda entry: entry.name):
            tar.addfile(entry.info(), io.BytesIO(entry.content))
    found = components or {"busybox": 1000, "init": 200}
    sizes = {"components": found, "total": sum(found.values())}
    (to / "sizes.json").write_text(json.dumps(sizes))
    return to
