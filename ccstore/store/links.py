"""One file under two names: hard links, and where the file system has them and no link can be made, reflinks.

Source: Linux, link(2), ioctl_ficlonerange(2).
"""

from __future__ import annotations

import errno
import fcntl
import os

from ccstore.store.canonical import TIMES

_FICLONE = 0x40049409
_NO_LINK = (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP)
_NO_CLONE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.ETXTBSY)


def link(source: bytes, target: bytes) -> bool:
    """Gives the file `source`, which is no link itself, the new name `target` too; False where that cannot be: it has
    as many names as it may have, the file system has no links, or it is another mount. Raises OSError."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    return True


def clone(source: bytes, target: bytes, mode: int) -> bool:
    """Makes `target` a new file that shares the blocks of `source`; False where that cannot be. Raises OSError."""
    old = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        new = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.ioctl(new, _FICLONE, old)
            os.fchmod(new, mode)
            os.utime(new, ns=TIMES)
        except OSError as error:
            os.unlink(target)  # noqa: PTH108
            if error.errno not in _NO_CLONE:
                raise
            return False
        finally:
            os.close(new)
    finally:
        os.close(old)
    return True
