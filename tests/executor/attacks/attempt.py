"""Tries what should not work, and says how it ended: a line of JSON for each attempt."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from collections.abc import Callable

libc = ctypes.CDLL(None, use_errno=True)
SUCCEEDED = "succeeded"


def attempt(name: str, action: Callable[[], object]) -> None:
    """Prints `name` and the name of the error that `action` ended with, or that it succeeded."""
    try:
        result = action()
    except OSError as error:
        said = errno.errorcode.get(error.errno or 0, str(error))
        print(json.dumps([name, said]), flush=True)
    else:
        print(json.dumps([name, f"{SUCCEEDED}: {result!r:.200}"]), flush=True)


def call(number: int, *arguments: int | bytes | None) -> int:
    """A system call by its number; raises OSError."""
    result: int = libc.syscall(
        number, *[ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    )
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def check(result: int) -> int:
    """The result of a function of the C library; raises OSError."""
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read(path: str, size: int = 4096) -> bytes:
    with open(path, "rb") as file:
        return file.read(size)


def write(path: str, text: str) -> int:
    with open(path, "w", encoding="utf-8") as file:
        return file.write(text)


def main(attacks: dict[str, object]) -> None:
    """`program ATTACK ARGUMENT…`: runs one of the attacks of a module."""
    attack = attacks[sys.argv[1]]
    assert callable(attack)
    attack(*sys.argv[2:])
