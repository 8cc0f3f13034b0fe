"""Trees, objects and realisations for the tests of the store."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from ccstore.model.derivation import Derivation
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import OutputId, Realisation
from ccstore.ports import Fault, no_fault
from ccstore.store.database import migrations
from ccstore.store.session import Session
from ccstore.store.store import Store
from tests.conftest import requires, unmet


def make_tree(at: Path, text: str = "hello") -> Path:
    """A tree with one of everything that an object can hold, in no canonical form."""
    (at / "bin").mkdir(parents=True)
    (at / "bin/run").write_text(f"#!/bin/sh\necho {text}\n")
    (at / "bin/run").chmod(0o6750)
    (at / "empty").mkdir(mode=0o700)
    (at / "data").write_text(text)
    (at / "data").chmod(0o600)
    (at / "link").symlink_to("bin/run")
    return at


def register(
    session: Session, text: str = "hello", name: str = "sample", fault: Fault = no_fault
) -> ObjectInfo:
    with session.staging("sample") as staging:
        return session.register(make_tree(staging / "out", text), name, fault=fault)


def derive(step: str, *inputs: Realisation) -> Derivation:
    return Derivation(step, ("sh",), inputs={str(n): each.object.nar_hash for n, each in enumerate(inputs)})


def realise(store: Store, session: Session, step: str, *inputs: Realisation) -> Realisation:
    """Pretends to build `step` from `inputs`: an object, its log and its realisation."""
    derivation = derive(step, *inputs)
    info = register(session, step, step)
    with store.logs.writer(derivation.id) as log:
        log.write(f"building {step}\n".encode())
    found = Realisation(OutputId(derivation.id, "out"), info, tuple(each.id for each in inputs))
    store.realisations.record(derivation, [found])
    return found


def older(index: Path, schema: int) -> None:
    """Makes of the index what a version of ccstore with this schema, 1 or 2, would have; others may have it open."""
    tables = ("objects", "realisations", "inputs", "files")[: 2 + schema]
    with closing(sqlite3.connect(index, isolation_level=None)) as connection:
        rows = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
        found = connection.execute("SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view')")
        for kind, name in found.fetchall():
            connection.execute(f"DROP {kind} {name}")
        for step in migrations()[:schema]:
            connection.executescript(step)
        for table in tables:
            for row in rows[table]:
                connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        connection.execute(f"PRAGMA user_version = {schema}")


def listing(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def python(script: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Runs `script` in a Python of its own, with this checkout importable; `before` precedes the command."""
    return subprocess.run(
        [*before, sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def ordinary() -> tuple[str, ...]:
    """What makes a command run without any power over file modes: nothing, or for root, without capabilities."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        unmet("root can only be made an ordinary user with setpriv, which is not here")
    return ("setpriv", "--inh-caps=-all", "--bounding-set=-all")


def _can_mount() -> bool:
    """Whether a file system can be mounted in namespaces of one's own."""
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


needs_mount = requires(_can_mount(), "no file system can be mounted here (unshare -rm)")
