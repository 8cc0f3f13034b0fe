"""A buildbox-casd that executes: a whole service in one process, started by the tests themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def running_casd(program: str, folder: Path) -> Iterator[str]:
    """A buildbox-casd that executes what it is sent, on a socket in `folder`; gives its URL."""
    address = f"unix:{folder / 'sock'}"
    runner = Path(program).with_name("buildbox-run")
    command = [program, f"--bind={address}", f"--buildbox-run={runner}", "--jobs=4", str(folder / "cache")]
    environment = dict(os.environ)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):  # then it must not find buildbox-fuse either
        environment["PATH"] = "/usr/bin:/bin"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)
    try:
        end = time.monotonic() + 30
        while not (folder / "sock").exists():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, "buildbox-casd does not listen"
            time.sleep(0.02)
        yield address
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def casd(tool: Callable[[str], str]) -> Iterator[str]:
    """The URL of a buildbox-casd."""
    with own_casd(tool) as url:
        yield url


@contextmanager
def own_casd(tool: Callable[[str], str]) -> Iterator[str]:
    """The URL of one that nobody else uses; the path of a socket must be short."""
    tool("bwrap")
    program = str(Path(tool("buildbox-casd")).resolve())
    folder = Path(tempfile.mkdtemp(prefix="casd-"))
    try:
        with running_casd(program, folder) as address:
            yield address
    finally:
        subprocess.run(["chmod", "-R", "u+rwX", folder], check=False)
        shutil.rmtree(folder)
