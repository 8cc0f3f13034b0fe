"""From an overlayfs upper folder back to a whole tree, without copying what did not change.

Source: Linux, Documentation/filesystems/overlayfs.rst. An upper folder holds what a build changed over a base
object: new and changed files as they are, removed ones as whiteouts (character devices 0:0), folders that hide
the base's as opaque (an xattr). Folders that were renamed by reference (redirects) or files with data left
below (metacopy) are refused with `output-invalid`; they only arise if a mount asks for them.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ccstore.errors import CcError
from ccstore.model.objects import Entry
from ccstore.store import links
from ccstore.store.canonical import check_depth, file_mode

Kind = Literal["removed", "opaque", "folder", "other"]
_SPACES = ("user.overlay.", "trusted.overlay.")
_REFUSED = ("redirect", "metacopy")


def complete(upper: Path, base: Path, entries: Iterator[Entry]) -> dict[bytes, bytes]:
    """Fills `upper` with everything of `base` that it does not hide, files as hard links to the base's.

    `entries` is the base's manifest. Returns SHA-256 and XXH3-128 of the linked files by relative path. Raises
    `output-invalid` and OSError.
    """
    kinds = {os.fsencode(name): kind for name, kind in _survey(os.fsencode(upper), b"")}
    known: dict[bytes, bytes] = {}
    source, target = (os.fsencode(folder) + b"/" for folder in (base, upper))
    hidden: bytes | None = None
    for entry in entries:
        path = os.fsencode(entry.path)
        if not path or (hidden is not None and path.startswith(hidden)):
            continue
        hidden = None
        kind = kinds.get(path)
        if kind is None:
            if digests := bring(entry, source + path, target + path):
                known[path] = digests
        elif kind != "folder":
            hidden = path + b"/"
    return known


def _survey(upper: bytes, folder: bytes) -> Iterator[tuple[bytes, Kind]]:
    """What `upper` holds, by relative path. Whiteouts are removed: the surveyed names say it all."""
    stack = [folder]
    while stack:
        inside = stack.pop()
        check_depth(inside)
        here = os.path.join(upper, inside)
        _make_readable(here)
        with os.scandir(here) as found:
            for entry in list(found):
                path = os.path.join(inside, entry.name)
                kind = _kind(entry)
                if kind == "removed":
                    os.unlink(entry.path)  # noqa: PTH108
                if kind in ("opaque", "folder"):
                    stack.append(path)
                yield path, kind


def _make_readable(folder: bytes) -> None:
    if stat.S_IMODE(os.lstat(folder).st_mode) & 0o700 != 0o700:
        os.chmod(folder, 0o700)  # noqa: PTH101


def _kind(entry: os.DirEntry[bytes]) -> Kind:
    if entry.is_dir(follow_symlinks=False):
        return "opaque" if _is_opaque(entry.path) else "folder"
    if entry.is_file(follow_symlinks=False):
        _overlay_xattrs(entry.path)
        return "other"
    status = entry.stat(follow_symlinks=False)
    return "removed" if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0 else "other"


def _is_opaque(folder: bytes) -> bool:
    value = _overlay_xattrs(folder).get("opaque")
    if value not in (None, b"y", b"x"):
        raise _refused(folder, f"opaque={value!r}")
    if value == b"x":
        raise _refused(folder, "whiteouts as extended attributes")
    return value == b"y"


def _overlay_xattrs(path: bytes) -> dict[str, bytes]:
    """The overlay's own extended attributes of a file or folder, by name without prefix."""
    found = {}
    for name in os.listxattr(path, follow_symlinks=False):
        for space in _SPACES:
            if name.startswith(space):
                found[name.removeprefix(space)] = os.getxattr(path, name, follow_symlinks=False)
    for name in _REFUSED:
        if name in found:
            raise _refused(path, name)
    return found


def _refused(path: bytes, what: str) -> CcError:
    return CcError(
        "output-invalid",
        f"the overlay uses a feature that cannot be read back: {what}",
        where=os.fsdecode(path),
        hint="mount it with redirect_dir=off,metacopy=off",
    )


def bring(entry: Entry, source: bytes, target: bytes) -> bytes:
    """Puts one entry of the base at `target`; the digests of a file that was linked, else nothing."""
    if entry.type == "directory":
        os.mkdir(target, 0o700)  # noqa: PTH102
        return b""
    if entry.type == "symlink":
        os.symlink(os.fsencode(entry.target), target)  # noqa: PTH211
        return b""
    mode = file_mode(entry.executable)
    if links.link(source, target):
        return entry.sha256 + entry.xxh3
    if not links.clone(source, target, mode):
        shutil.copyfile(source, target)
        os.chmod(target, mode)  # noqa: PTH101
    return b""
