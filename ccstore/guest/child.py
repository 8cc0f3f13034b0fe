"""A program that ends when ccstore does: started by `enter`, which tells what it could not do before it became it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ccstore.errors import CcError

if TYPE_CHECKING:  # it is a script, and loads more than is needed here
    from ccstore.guest import enter

ENTER = Path(__file__).with_name("enter.py")
SHARE = "@share@"  # as `enter` has it
FILE_SERVER = "@file-server-{}@"


@dataclass(frozen=True, slots=True)
class ContainerRoot:
    """What a container shall see as `/`: a folder of this host, or a descriptor of a tar archive."""

    folder: Path | None = None
    archive: int | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """A command to run. The guest gets a private writable view of `root`, at `root_at` below SHARE.

    `keep` are descriptors that the command inherits under their numbers. Each of `served` is shared by virtiofsd: the
    words FILE_SERVER and its number stand for the descriptor of the connection.
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    root: ContainerRoot | None = None
    root_at: str = ""
    keep: tuple[int, ...] = ()
    served: tuple[Path, ...] = ()


def start(program: Program, keep: Sequence[int], stdio: tuple[int, int]) -> subprocess.Popen[bytes]:
    """Starts it with (stdin and stdout, stderr) of `stdio`. Raises `vmm-failed`, `no-userns`.

    The thread that calls this must outlive it.
    """
    kept = [*program.keep, *keep]
    status, report = os.pipe()
    with os.fdopen(status, "rb") as file:
        process = _entering(program, kept, report, stdio)
        try:
            refusal = file.read()
        except BaseException:  # an interrupt: nobody else knows it yet
            process.kill()
            process.wait()
            raise
    if refusal:
        process.wait()
        raise _refused(json.loads(refusal), program)
    return process


def _entering(
    program: Program, kept: list[int], report: int, stdio: tuple[int, int]
) -> subprocess.Popen[bytes]:
    """A process of `enter`; `report` is closed here, so that it ends when that became the program."""
    try:
        with memory_file(json.dumps(_spec(program, report, kept))) as source:
            return subprocess.Popen(
                [sys.executable or "/usr/bin/python3", "-I", "-S", str(ENTER), str(source)],
                stdin=stdio[0],
                stdout=stdio[0],
                stderr=stdio[1],
                pass_fds=(source, report, *kept, *_archives(program)),
                start_new_session=True,
            )
    finally:
        os.close(report)


def _archives(program: Program) -> tuple[int, ...]:
    archive = None if program.root is None else program.root.archive
    return () if archive is None else (archive,)


def _spec(program: Program, status: int, keep: list[int]) -> enter.Spec:
    root: enter.Root | None = None
    if program.root is not None:
        folder = program.root.folder
        root = {
            "folder": None if folder is None else str(folder),
            "archive": program.root.archive,
            "at": program.root_at,
        }
    return {
        "parent": os.getpid(),
        "status": status,
        "keep": keep,
        "root": root,
        "argv": list(program.argv),
        "env": dict(program.env),
    }


@contextlib.contextmanager
def memory_file(text: str) -> Iterator[int]:
    """A descriptor of a file that holds `text` and has no name."""
    source = os.memfd_create("ccstore-guest")
    try:
        os.write(source, text.encode())
        os.lseek(source, 0, os.SEEK_SET)
        yield source
    finally:
        os.close(source)


def _refused(message: dict[str, object], program: Program) -> CcError:
    text = f"{message['step']}: {message['text']}"
    if message["step"] == "make namespaces":
        hint = "`ccstore doctor` says what this host can do"
        return CcError("no-userns", f"the container's root could not be made: {text}", hint=hint)
    closed = re.search(r"Permission denied: '/proc/self/fd/\d+(.*)'$", text)
    if closed is not None and program.root is not None:
        hint = "give --rootfs a folder that you may read all of"
        where = f"{program.root.folder}{closed[1]}"
        return CcError("file-missing", "the container's root cannot be read", where=where, hint=hint)
    return CcError(
        "vmm-failed",
        f"{Path(program.argv[0]).name} could not be started: {text}",
        hint="--dry-run prints its command line, to be tried by hand",
    )
