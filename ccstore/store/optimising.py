"""The mark of an object whose files are being replaced by links, which its folders may show for that long.

It is made and removed under the exclusive `gc.lock`; one that is there when nobody holds that is of a process that
was killed, and whoever opens the store settles the folders.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ccstore.model.storepath import StorePath
from ccstore.ports import Fault
from ccstore.store import files
from ccstore.store.failures import explained
from ccstore.store.layout import Layout
from ccstore.store.locks import GcLock
from ccstore.store.sharing import close_folder


@contextmanager
def marked(layout: Layout, path: StorePath, fault: Fault) -> Iterator[None]:
    """While the object is changed. Whatever is raised in there leaves the mark. Raises OSError."""
    files.write_atomically(layout.optimising, path.base.encode())
    fault("mark")
    yield
    layout.optimising.unlink()
    fault("unmark")


def settle(layout: Layout, gc_lock: GcLock) -> None:
    """Gives the folders of an object that somebody was killed over their modes and times again."""
    if not os.path.lexists(layout.optimising):
        return
    with explained(layout.root), gc_lock.exclusive():
        try:
            path = StorePath.parse(files.read(layout.optimising).decode())
        except FileNotFoundError:  # nobody was killed
            return
        except ValueError:  # no mark of ours
            files.remove(layout.optimising)
            return
        for folder, _, _ in os.walk(os.fsencode(layout.object(path))):
            close_folder(folder)
        layout.optimising.unlink()
