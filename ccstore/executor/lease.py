"""Whose what lies in an engine is: what a killed ccstore left there, told from what a running one needs.

    <folder>/id            a random name of the store
    <folder>/leases/<run>  one build that runs; locked (flock(2)) for as long as its process lives

Whatever a build makes in the engine carries both as labels. A copy of a store must not take the original's builds
for its own dead ones: so the name also counts the inode of `id`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def owner(folder: Path) -> str:
    """The store's name in the engine; given to it once."""
    file = folder / "id"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f".id-{os.urandom(8).hex()}"
        new.write_text(os.urandom(16).hex())
        try:
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.link(new, file)
        finally:
            new.unlink()
    text = f"{file.read_text()} {file.stat().st_ino}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def lease(folder: Path) -> Iterator[str]:
    """A new run's name. If the block raises, its lease stays behind, for a sweep to look after what it left."""
    leases = folder / "leases"
    leases.mkdir(parents=True, exist_ok=True)
    name = os.urandom(6).hex()
    hidden = leases / f".{name}"  # nobody may see it before it is locked
    descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        hidden.rename(leases / name)
        yield name
        (leases / name).unlink()
    finally:
        os.close(descriptor)


def ended(folder: Path) -> list[str]:
    """Runs whose process is gone, and that may have left something."""
    try:
        names = os.listdir(folder / "leases")
    except FileNotFoundError:
        return []
    return [name for name in names if not name.startswith(".") and not is_held(folder, name)]


def is_held(folder: Path, name: str) -> bool:
    """Whether the run is still going on."""
    try:
        descriptor = os.open(folder / "leases" / name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def forget(folder: Path, name: str) -> None:
    """Removes the lease of a run that ended, after what it left was removed."""
    (folder / "leases" / name).unlink(missing_ok=True)
