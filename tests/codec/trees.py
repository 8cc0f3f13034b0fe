"""Small trees whose NARs were made by a real Nix (`golden/<name>.nar`, written by `nix-store --dump`)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

GOLDEN = Path(__file__).with_name("golden")


def empty_file(at: Path) -> None:
    at.write_bytes(b"")


def text_file(at: Path) -> None:
    at.write_bytes(b"hello\n")


def executable_file(at: Path) -> None:
    at.write_bytes(b"#!/bin/sh\necho hello\n")
    at.chmod(0o744)


def group_executable_file(at: Path) -> None:
    at.write_bytes(b"only the owner's bit counts")
    at.chmod(0o654)


def link(at: Path) -> None:
    at.symlink_to("../no/where")


def empty_folder(at: Path) -> None:
    at.mkdir()


def order(at: Path) -> None:
    """Names that sort otherwise when compared as text, by locale, or with their slash."""
    at.mkdir()
    for name in (b"a", b"a-b", b"a.b", b"B", b"Z", "é".encode(), b"\xff\xfe", b"a b", b"_", b"10", b"9"):
        Path(os.fsdecode(os.fsencode(at) + b"/" + name)).write_bytes(name * len(name))
    (at / "a+").mkdir()
    (at / "a+" / "inner").write_bytes(b"12345678")
    (at / "aa").symlink_to("a")


def nested(at: Path) -> None:
    (at / "1/2/3/4").mkdir(parents=True)
    (at / "1/2/3/4/file").write_bytes(bytes(range(256)))
    (at / "1/2/empty").mkdir()
    (at / "1/run").write_bytes(b"x")
    (at / "1/run").chmod(0o700)
    (at / "1/to-absolute").symlink_to("/etc/passwd")


TREES: dict[str, Callable[[Path], None]] = {
    make.__name__: make
    for make in (
        empty_file,
        text_file,
        executable_file,
        group_executable_file,
        link,
        empty_folder,
        order,
        nested,
    )
}


def nix(folder: Path, *command: str) -> bytes:
    """The output of a Nix command that keeps its store and its configuration in `folder`."""
    state = folder / "nix"
    state.mkdir(exist_ok=True)
    (state / "nix.conf").write_text(
        "build-users-group =\nsandbox = false\nsubstituters =\n"
        "experimental-features = nix-command ca-derivations\n"
    )
    names = {"NIX_CONF_DIR": state, "NIX_STATE_DIR": state / "var", "NIX_LOG_DIR": state / "log"}
    environment = {**os.environ, **{name: str(value) for name, value in names.items()}, "HOME": str(state)}
    return subprocess.run(command, env=environment, check=True, capture_output=True).stdout
