"""Room that a collection can have on a full disk: the file `reserve`, removed when nothing else is left.

To forget objects SQLite needs a journal, of at most as many bytes as the index has. Without this file the command
that frees a full disk could not even begin; so nothing is added to a store that has no room for it.
"""

from __future__ import annotations

import contextlib
import errno
import os

from ccstore.store.layout import Layout

_MORE = 256 << 10  # bytes beyond the index: names in folders, and an index that grows
_CANNOT = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def keep(layout: Layout) -> None:
    """Makes the file as large as it must be, where the file system can do that. Raises OSError (no room: ENOSPC)."""
    wanted = layout.index.stat().st_size + _MORE
    descriptor = os.open(layout.reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size < wanted:
            _extend(descriptor, size, wanted + _MORE)
    finally:
        os.close(descriptor)


def _extend(descriptor: int, size: int, wanted: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, wanted)
    except OSError as error:
        os.ftruncate(descriptor, size)  # what was reserved before there was no more room
        if error.errno not in _CANNOT:
            raise


def spend_if_needed(layout: Layout) -> None:
    """Before a collection forgets what is dead; `keep` makes the file anew afterwards."""
    with contextlib.suppress(OSError):
        free = os.statvfs(layout.root)
        if free.f_bavail * free.f_frsize < layout.index.stat().st_size + _MORE:
            layout.reserve.unlink()
