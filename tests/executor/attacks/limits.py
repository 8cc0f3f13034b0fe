"""Using up what there is."""

from __future__ import annotations

import os
import time

from .attempt import attempt, main


def many_processes(mark: str) -> None:
    for _ in range(400):
        if os.fork() == 0:
            os.execv("/bin/sleep", ["sleep", mark])
    print("many", flush=True)
    time.sleep(60)


def much_memory(megabytes: str) -> None:
    """Exits with 3 where it is not allowed that much."""
    try:
        kept = bytearray(int(megabytes) << 20)
    except MemoryError:
        os._exit(3)
    print(len(kept))


def large_file(megabytes: str) -> None:
    with open("/out/out", "wb") as file:
        for _ in range(int(megabytes)):
            file.write(bytes(1 << 20))


def large_devices() -> None:
    """The file systems in memory that each sandbox has."""
    attempt("/dev/shm", lambda: _fill("/dev/shm/x", 300))
    attempt("/dev", lambda: _fill("/dev/x", 1))
    attempt("/in", lambda: _fill("/in/x", 1))


def _fill(path: str, megabytes: int) -> None:
    try:
        with open(path, "wb", buffering=0) as file:
            for _ in range(megabytes):
                file.write(bytes(1 << 20))
    finally:
        if os.path.exists(path):
            os.truncate(path, 0)


def many_files() -> None:
    """Open ones."""
    attempt("5000 open files", lambda: [os.open("/dev/null", os.O_RDONLY) for _ in range(5000)])


if __name__ == "__main__":
    main(globals())
