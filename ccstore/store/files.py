"""Writing so that a power cut leaves the old or the new, and removing what is read-only."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path

from ccstore.errors import CcError

UNFINISHED = ".new-"
BLOCK = 512  # bytes, the unit of st_blocks (stat(2))
AT_FDCWD, RENAME_EXCHANGE = -100, 2
_LONG = 3800  # bytes of a path: a name of 255 more still fits into PATH_MAX


def unique(prefix: str) -> str:
    """A name that nothing else uses."""
    return prefix + os.urandom(8).hex()


def read(path: Path) -> bytes:
    """The content of a regular file. Raises ValueError for anything else, which is not waited for, and OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise ValueError("it is no file") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("it is no file")
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def exchange(one: Path, other: Path) -> bool:
    """Swaps two names at once (renameat2(2)); False where the file system or the C library cannot."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    names = (AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other))
    if libc.renameat2(*names, RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


def write_atomically(path: Path, data: bytes) -> None:
    """`path` holds `data` afterwards, also after a power cut; never a part of it."""
    temporary = path.with_name(unique(UNFINISHED))
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """What was created, renamed or removed in `folder` survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(folder: Path) -> None:
    """Everything written so far on the file system of `folder` is on the disk (syncfs(2)); raises OSError."""
    import ctypes  # slow to load, and only registration needs it

    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(descriptor)


def remove(path: Path | str) -> int:
    """Removes a file or a tree, read-only folders too, and returns the bytes that this gave back to the disk.

    What is not there any more is fine: two collections may delete the same. Follows no links. A build may have
    nested folders deeper than a path may be long: such a one is moved to the top first.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return 0
    if not stat.S_ISDIR(status.st_mode):
        return _unlink(os.fsencode(path), status)
    return _remove_tree(os.fsencode(path))


def _remove_tree(tree: bytes) -> int:
    freed = 0
    folders = [tree]
    for folder in folders:  # grows on the way: folders come after what they are in
        with contextlib.suppress(FileNotFoundError):
            # an ordinary user empties only what it may write to; root saves the disk the change
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                os.chmod(folder, 0o700)  # noqa: PTH101
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        freed += _unlink(entry.path)
                    elif len(entry.path) < _LONG:
                        folders.append(entry.path)
                    else:
                        folders.append(_moved_up(entry.path, tree))
    for folder in reversed(folders):
        with contextlib.suppress(FileNotFoundError):
            freed += os.lstat(folder).st_blocks * BLOCK
            os.rmdir(folder)  # noqa: PTH106
    return freed


def _moved_up(folder: bytes, tree: bytes) -> bytes:
    """Moves `folder` to the top of `tree`; where it is then."""
    place = os.path.join(tree, unique(".deep-").encode())
    os.chmod(folder, 0o700)  # noqa: PTH101  or an ordinary user could not move it to another parent
    os.rename(folder, place)  # noqa: PTH104
    return place


def _unlink(path: bytes, status: os.stat_result | None = None) -> int:
    try:
        status = status or os.lstat(path)
        os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        return 0
    return status.st_blocks * BLOCK if status.st_nlink == 1 else 0


def copy(source: Path, target: Path) -> None:
    """Copies a file, link or tree; of the modes only the executable bit. Raises `output-invalid`, OSError."""
    stack = [(source, target)]
    while stack:
        old, new = stack.pop()
        mode = old.lstat().st_mode
        if stat.S_ISDIR(mode):
            new.mkdir()
            stack += [(child, new / child.name) for child in old.iterdir()]
        elif stat.S_ISLNK(mode):
            new.symlink_to(old.readlink())
        elif stat.S_ISREG(mode):
            shutil.copyfile(old, new, follow_symlinks=False)
            new.chmod(0o755 if mode & stat.S_IXUSR else 0o644)
        else:
            raise CcError(
                "output-invalid",
                "only files, folders and links can be in the store",
                where=str(old),
                hint="take the device, socket or FIFO out",
            )
