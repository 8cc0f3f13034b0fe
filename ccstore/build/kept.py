"""Failed builds that were kept (`realize --keep-failed`), so that people can look at them.

<store>/failed/<derivation>-<process>-<time>/
  build/ tmp/ out/     what the build left of /build, /tmp and /out (overlay/ belongs to /out)
  again.sh             runs the build again on that, in the same sandbox; what a service built has none
  derivation           the canonical bytes of what was built
  kept.json            step, root and inputs (base names of objects), when (unix time, seconds)
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ccstore.build.failure import AGAIN
from ccstore.model import derivation as derivations
from ccstore.model.derivation import Derivation
from ccstore.model.realisation import Realisation
from ccstore.model.storepath import StorePath
from ccstore.ports import BuildResult
from ccstore.store import files
from ccstore.store.store import Store

FORMAT = 1
DERIVATION, RECORD = "derivation", "kept.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """One failed build. `inputs` are the objects that it saw, the toolchain under ""."""

    folder: Path
    step: str
    derivation: Derivation
    inputs: Mapping[str, StorePath]
    when: int


def keep(
    store: Store,
    staging: Path,
    step: str,
    derivation: Derivation,
    inputs: Mapping[str, Realisation],
    result: BuildResult,
) -> Path:
    """Moves what a failed build left in `staging` to a folder of its own; where that is."""
    kept = store.layout.failed / f"{derivation.id[:16]}-{os.getpid()}-{time.time_ns():x}"
    (staging / "scratch").chmod(0o700)  # it may hold set-uid files, and sockets that somebody listens at
    (staging / "scratch").rename(kept)
    (staging / "out").rename(kept / "out")
    was, now = (path.relative_to(store.root) for path in (staging, kept))
    command = result.command.replace(f"{was}/scratch", str(now)).replace(f"{was}/out", f"{now}/out")
    if command:
        (kept / AGAIN).write_text(command)
    (kept / DERIVATION).write_bytes(derivation.encode())
    record = {
        "format": FORMAT,
        "step": step,
        "inputs": {name: each.object.path.base for name, each in inputs.items()},
        "when": int(time.time()),
    }
    (kept / RECORD).write_text(json.dumps(record))  # last: with it the folder is whole
    return kept


def kept_builds(store: Store, step: str) -> list[Kept]:
    """The failed builds of `step` that were kept and are still there, the latest first."""
    found = [each for each in map(read, store.layout.failed.iterdir()) if each and each.step == step]
    return sorted(found, key=lambda each: each.when, reverse=True)


def read(folder: Path) -> Kept | None:
    """The build that was kept in `folder`; None if it is none, or not whole."""
    try:
        value = json.loads((folder / RECORD).read_text())
        derivation = derivations.decode((folder / DERIVATION).read_bytes())
        if value["format"] != FORMAT or not isinstance(derivation, Derivation):
            return None
        inputs = {name: StorePath.parse(base) for name, base in value["inputs"].items()}
        return Kept(folder, str(value["step"]), derivation, inputs, int(value["when"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def forget(folder: Path) -> None:
    """Removes what was kept in `folder`."""
    files.remove(folder)
