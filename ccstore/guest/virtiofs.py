"""Folders shared by virtiofsd, a server beside QEMU that speaks vhost-user with it, over a socket without a name."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from ccstore.errors import CcError
from ccstore.guest import child

PROGRAM = "virtiofsd"
# it is no command for people, and so mostly not on PATH; Debian 12 has it in qemu-system-common
PLACES = ("/usr/libexec", "/usr/lib/qemu", "/usr/lib")


def find() -> str:
    """Raises `vmm-missing`."""
    found = shutil.which(PROGRAM, path=os.pathsep.join((os.environ.get("PATH", ""), *PLACES)))
    if found is None:
        hint = "install it (Debian: virtiofsd, or qemu-system-common), or leave --virtiofs out to share by 9p"
        raise CcError("vmm-missing", f"this host has no {PROGRAM}", hint=hint)
    return found


class FileServer:
    """A virtiofsd for one folder; `connection` is for one monitor, with which the server ends."""

    def __init__(self, folder: Path, stderr: int) -> None:
        with socket.socket(socket.AF_UNIX) as listener, open(os.devnull, "r+b") as nothing:  # noqa: PTH123
            listener.bind("")  # the kernel finds a name that is in no file system
            listener.listen(1)
            self.connection = socket.socket(socket.AF_UNIX)
            self.connection.connect(listener.getsockname())
            source = str(folder).replace("\\", "\\\\").replace(",", "\\,")
            argv = (find(), f"--fd={listener.fileno()}", "-o", f"source={source}")
            program = child.Program(argv)
            self._process: subprocess.Popen[bytes] = child.start(
                program, [listener.fileno()], (nothing.fileno(), stderr)
            )

    def stop(self) -> None:
        """Ends it, if its monitor's end has not."""
        self.connection.close()
        self._process.terminate()
        self._process.wait()
