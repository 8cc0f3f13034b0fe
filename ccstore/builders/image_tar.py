"""The root as one archive with the kernel in it, as `tar` formats have it: /boot/kernel and /boot/cmdline.

The result is canonical like what goes in: pax, sorted by path, numeric owners. Stdlib only; runs inside the sandbox.
"""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from ccstore.builders import image_common as common
else:  # inside the sandbox, where there is no ccstore
    import image_common as common


def add_kernel(archive: Path, kernel: Path, cmdline: str, to: Path) -> None:
    """Writes `archive` with /boot/kernel and /boot/cmdline to `to`; they replace what has those names."""
    text = f"{cmdline}\n".encode()
    with (
        tarfile.open(archive, "r:", encoding="utf-8", errors="surrogateescape") as source,
        kernel.open("rb") as image,
        tarfile.open(to, "w:", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape") as sink,
    ):
        entries: dict[str, tuple[tarfile.TarInfo, IO[bytes] | None]] = {
            entry.name: (entry, source.extractfile(entry) if entry.isreg() else None) for entry in source
        }
        entries.setdefault("boot", (_entry("boot", tarfile.DIRTYPE, 0o755), None))
        entries["boot/cmdline"] = (_entry("boot/cmdline", tarfile.REGTYPE, 0o644, len(text)), BytesIO(text))
        size = kernel.stat().st_size
        entries["boot/kernel"] = (_entry("boot/kernel", tarfile.REGTYPE, 0o644, size), image)
        for name in sorted(entries, key=lambda name: name.encode("utf-8", "surrogateescape")):
            entry, body = entries[name]
            sink.addfile(entry, body)


def _entry(name: str, kind: bytes, mode: int, size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.mtime = kind, mode, size, common.epoch()
    return entry
