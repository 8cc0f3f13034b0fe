"""Folders shared by virtiofsd, a server beside QEMU that speaks vhost-user with it, over a socket without a name.

virtiofsd takes a socket that listens, and whoever connects to it first may read and write the folder. So it is bound
in a folder that is closed to others, and has lost its name before the server starts.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from ccstore.errors import CcError
from ccstore.guest import child

PROGRAM = "virtiofsd"
STOP_SECONDS = 3.0
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
        program = find()
        listener, self.connection = connected()
        with listener, open(os.devnull, "r+b") as nothing:  # noqa: PTH123
            source = str(folder).replace("\\", "\\\\").replace(",", "\\,")
            argv = (program, f"--fd={listener.fileno()}", "-o", f"source={source}")
            try:
                self._process: subprocess.Popen[bytes] = child.start(
                    child.Program(argv), [listener.fileno()], (nothing.fileno(), stderr)
                )
            except BaseException:
                self.connection.close()
                raise

    def stop(self) -> None:
        """Ends it, if its monitor's end has not."""
        self.connection.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def connected() -> tuple[socket.socket, socket.socket]:
    """A socket that listens and has one client, which is the other; nobody else can reach it."""
    listener, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    try:
        with tempfile.TemporaryDirectory(prefix="ccstore-") as folder:  # with mode 0700
            descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                name = f"/proc/self/fd/{descriptor}/socket"  # the folder's own may be too long for an address
                listener.bind(name)
                listener.listen(1)
                client.connect(name)
            finally:
                os.close(descriptor)
    except BaseException:
        listener.close()
        client.close()
        raise
    return listener, client
