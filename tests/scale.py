"""A synthetic store of any size, and what ccstore takes in it: `python -m tests.scale DIR --objects 1000000`.

Without --measure it makes the store at DIR, straight through the files of its layout and its index: tiny objects,
derivations that each have as many outputs as there are objects for each, and roots. Derivations are in as many chains
as there are roots and some more, which nothing keeps; each is made from outputs of the one before it in its chain.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import xxhash

from ccstore.codec import nar
from ccstore.model.derivation import Derivation
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import OutputId, Realisation
from ccstore.model.storepath import StorePath
from ccstore.store import canonical, manifest, sealed
from ccstore.store.database import Database
from ccstore.store.layout import Layout
from ccstore.store.manifest import Header
from ccstore.store.roots import Root
from ccstore.store.sharing import key, shareable
from ccstore.store.store import Store

INPUTS = 2  # of each derivation
NAMES = ("out", *(f"out-{number}" for number in range(1, 100)))


@dataclass(frozen=True)
class Size:
    """`dead`: for each chain of derivations that a root keeps, so many that none keeps."""

    objects: int = 1_000_000
    derivations: int = 200_000
    roots: int = 100
    dead: float = 0.25

    @property
    def outputs(self) -> int:
        return max(1, self.objects // self.derivations)

    @property
    def chains(self) -> int:
        return max(1, round(self.roots * (1 + self.dead)))


def make(root: Path, size: Size) -> None:
    """Makes the store. Nothing waits for the disk: it is there to be measured."""
    Store.open(root).close()
    layout = Layout(root)
    layout.index.unlink()
    database = Database(root, layout.index, writable=True, new=True)
    try:
        database.replace(
            ((Header(info, number), keys) for number, info, keys in _objects(layout, size)),
            _realisations(layout, size),
        )
    finally:
        database.close()
    last = {chain: each for each in range(size.derivations) if (chain := each % size.chains) < size.roots}
    for number, each in last.items():
        output = OutputId(_derivation(each).id, NAMES[0])
        name = f"scale/root-{number}"
        (layout.roots / "scale").mkdir(exist_ok=True)
        (layout.roots / name).write_bytes(
            sealed.seal(Root(name, _info(each, 0, size).path, output, 1).to_json())
        )


def _content(number: int) -> bytes:
    return b"object %d of a synthetic store\n" % number


def _info(derivation: int, output: int, size: Size) -> ObjectInfo:
    data = _content(derivation * size.outputs + output)
    text = nar.MAGIC + nar.file_head(len(data), False) + data + nar.file_tail(len(data))
    nar_hash = Sha256.of(text)
    name = f"step-{derivation}" + (f"-{NAMES[output]}" if output else "")
    return ObjectInfo(StorePath.of_content(name, nar_hash), nar_hash, len(text))


def _objects(layout: Layout, size: Size) -> Iterator[tuple[int, ObjectInfo, list[int]]]:
    for number in range(size.derivations * size.outputs):
        info, data = _info(*divmod(number, size.outputs), size), _content(number)
        digests = hashlib.sha256(data).digest() + xxhash.xxh3_128_digest(data)
        records = [manifest.file_record(b"", len(data), False, digests)]
        place = f"{layout.objects}/{info.path.base}"
        _write(place, data, canonical.file_mode(False))
        os.utime(place, ns=canonical.TIMES)
        _write(f"{layout.manifests}/{info.path.base}", manifest.encode(Header(info, number), records))
        yield number, info, [key(record) for record in shareable(manifest.parse(records))]


def _write(path: str, data: bytes, mode: int = 0o644) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    os.write(descriptor, data)
    os.close(descriptor)


def _derivation(number: int) -> Derivation:
    return Derivation(f"step-{number}", ("sh",))


def _realisations(layout: Layout, size: Size) -> Iterator[Realisation]:
    ids: list[str] = []
    for number in range(size.derivations):
        derivation = _derivation(number)
        ids.append(derivation.id)
        _write(str(layout.derivation(derivation.id)), derivation.encode())
        before = number - size.chains
        inputs = [
            OutputId(ids[before], NAMES[(number + each) % size.outputs])
            for each in range(min(INPUTS, size.outputs) if before >= 0 else 0)
        ]
        for output in range(size.outputs):
            found = Realisation(
                OutputId(derivation.id, NAMES[output]), _info(number, output, size), tuple(inputs)
            )
            _write(str(layout.realisation(found.id)), sealed.seal(found.to_json()))
            yield found


@dataclass(frozen=True)
class Taken:
    """Seconds of wall and of CPU time, and `megabytes` (2^20 bytes) of memory at the most."""

    wall: float
    cpu: float
    megabytes: float


RUNS = {"open": 21, "path": 21, "realize": 21, "gc --dry-run": 5}


def measure(*roots: Path) -> list[dict[str, Taken]]:
    """What commands take in each store, in turn: medians. One small object with a root is added to it."""
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        (project / "recipes").mkdir()
        (project / "recipes/ccstore.yml").write_text("project: measure\n")
        (project / "recipes/file.yml").write_text("kind: path\npath: ../file\n")
        (project / "file").write_text("measured\n")
        ccstore = str(Path(sys.executable).with_name("ccstore"))
        opening = "import sys; from pathlib import Path; from ccstore.store.store import Store"
        commands = {
            "open": [sys.executable, "-c", f"{opening}; Store.open(Path(sys.argv[2])).close()", "--store"],
            "path": [ccstore, "path", "file", "--store"],
            "realize": [ccstore, "realize", "file", "--store"],
            "gc --dry-run": [ccstore, "gc", "--dry-run", "--store"],
        }
        for root in roots:
            _run([*commands["realize"], str(root)], project)
        taken: list[dict[str, Taken]] = [{} for _ in roots]
        for words, argv in commands.items():
            found = [[_run([*argv, str(root)], project) for root in roots] for _ in range(RUNS[words])]
            for each, runs in zip(taken, zip(*found, strict=True), strict=True):
                each[words] = _median(runs)
        return taken


def _median(found: Iterable[Taken]) -> Taken:
    columns = zip(*map(astuple, found), strict=True)
    return Taken(*(round(statistics.median(column), 3) for column in columns))


def _run(argv: list[str], folder: Path) -> Taken:
    began = time.monotonic()
    with subprocess.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"it failed: {' '.join(argv)}")
    return Taken(time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the store is made, or is")
    for name in ("objects", "derivations", "roots"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Size(), name))
    parser.add_argument("--dead", type=float, default=Size().dead, help=Size.__doc__)
    parser.add_argument("--measure", action="store_true", help="measure the store that is there")
    chosen = parser.parse_args()
    if chosen.measure:
        [found] = measure(chosen.folder)
        print(json.dumps({name: asdict(each) for name, each in found.items()}, indent=1))
    else:
        make(chosen.folder, Size(chosen.objects, chosen.derivations, chosen.roots, chosen.dead))


if __name__ == "__main__":
    main()
