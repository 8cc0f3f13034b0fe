"""A project that realizes in a tenth of a second, and what its store must be like afterwards, to the last file.

It has every kind of step: a local file and folder, a download, a build with two outputs and one that changes a tree
through an overlay. Its toolchain is a static busybox.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ccstore.build.sharing import PushOptions, push
from ccstore.build.workspace import Options, Workspace
from ccstore.cache.push import Pushed
from ccstore.codec.signing import SecretKey
from ccstore.events import Sink, ignore
from ccstore.ports import Fault, no_fault
from ccstore.store import gc
from ccstore.store.damage import Damage
from ccstore.store.gc import GcReport
from ccstore.store.store import Store
from ccstore.store.verify import verify
from tests.conftest import write

TARGETS = ("changed", "made^dev", "script")
APPLETS = ("cat", "cp", "echo", "ln", "mkdir", "mv", "rm", "sh", "sleep")
BASH = '#!/bin/busybox sh\nexec /bin/busybox sh "$@"\n'
RECIPES = {
    "box": "kind: path\npath: ../box\n",
    "script": "kind: path\npath: ../script\n",
    "tree": "kind: path\npath: ../tree\n",
    "file": "kind: url\nurl: [file://{root}/file]\nsha256: {sha256}\n",
    "made": """kind: build
toolchain: box
inputs: {{tree: tree, file: file}}
outputs: [out, dev]
script: |
  mkdir /out/out /out/out/sub
  cat /in/tree/one /in/file >/out/out/text
  cp /in/tree/sub/two /out/out/sub/two
  ln -s text /out/out/link
  mkdir /out/dev
  cp /in/file /out/dev/header
""",
    "changed": """kind: build
toolchain: box
inputs: {{tree: made}}
overlays: {{out: tree}}
script: |
  rm /out/out/text
  cat /in/tree/text /in/tree/sub/two >/out/out/text
""",
}


@dataclass(frozen=True)
class Tiny:
    """The project in `root` with its store in `store`."""

    root: Path
    store: Path

    def realize(self, fault: Fault = no_fault, sink: Sink = ignore) -> list[str]:
        """Base names of what the targets give."""
        with Workspace.open(self.root, self.store) as work:
            found = work.realize(list(TARGETS), fault=fault, sink=sink)
            return [each.object.path.base for each in found.values()]

    def pull(self, fault: Fault = no_fault) -> list[str]:
        """Like `realize`, all from the cache."""
        with Workspace.open(self.root, self.store) as work:
            found = work.realize(list(TARGETS), options=Options(build=False), fault=fault)
            return [each.object.path.base for each in found.values()]

    def push(self, cache: Path, key: SecretKey, fault: Fault = no_fault) -> list[Pushed]:
        """Everything that is here, to the folder `cache`."""
        with Workspace.open(self.root, self.store) as work:
            targets = [work.require_realised(target) for target in TARGETS]
            options = PushOptions(inputs=True)
            return push(work.store, cache.as_uri(), key, targets, options=options, fault=fault)

    def trust(self, cache: Path, key: SecretKey) -> None:
        """From now on the project has this cache."""
        text = f"project: tiny\ncaches:\n  - url: {cache.as_uri()}\n    keys: ['{key.public}']\n"
        write(self.root / "recipes/ccstore.yml", text)

    def collect(self, fault: Fault = no_fault) -> GcReport:
        with Store.open(self.store) as store:
            return gc.collect(store, fault=fault)

    def verify(self) -> list[Damage]:
        """What `verify --full` calls damage."""
        with Store.open(self.store) as store:
            return [each for each in verify(store, full=True) if each.hurts]

    def edit(self, text: str) -> None:
        """Another version of what everything else is made from."""
        (self.root / "tree/one").write_text(text)
        write(self.root / "file", f"downloaded {text}")
        self._write_recipes()

    def _write_recipes(self) -> None:
        digest = hashlib.sha256((self.root / "file").read_bytes()).hexdigest()
        for name, text in RECIPES.items():
            write(self.root / f"recipes/{name}.yml", text.format(root=self.root, sha256=digest))

    def with_store(self, store: Path) -> Tiny:
        """The same project with a copy of its store at `store`, where nothing is yet."""
        subprocess.run(["cp", "-a", self.store, store], check=True)
        return self.with_store_of_its_own(store)

    def with_store_of_its_own(self, store: Path) -> Tiny:
        """The same project with an empty store."""
        return Tiny(self.root, store)


def make(root: Path, store: Path, busybox: str) -> Tiny:
    """Writes the project into `root`; the store is not made."""
    write(root / "recipes/ccstore.yml", "project: tiny\n")
    for name in ("bin", "in", "build", "out", "tmp", "dev", "proc"):
        (root / "box" / name).mkdir(parents=True)
    shutil.copy(busybox, root / "box/bin/busybox")
    for applet in APPLETS:
        (root / "box/bin" / applet).symlink_to("busybox")
    write(root / "box/bin/bash", BASH).chmod(0o755)
    write(root / "script", "#!/bin/sh\necho script\n").chmod(0o755)
    write(root / "tree/sub/two", "two\n")
    (root / "tree/empty").mkdir()
    tiny = Tiny(root, store)
    tiny.edit("one\n")
    return tiny


def strays(root: Path) -> list[str]:
    """Every file of the store that nothing accounts for, relative to it."""
    with Store.open(root, create=False) as store:
        known = set(_known(store))
    layout = store.layout
    found = [
        root / name
        for name in ("objects", *(each.name for each in layout.folders() if each != layout.objects))
    ]
    places = [*root.iterdir(), *(path for folder in found for path in folder.iterdir())]
    places += [*layout.roots.glob("*/*"), *layout.lineages.glob("*/*")]
    return sorted(str(path.relative_to(root)) for path in places if path not in known)


def _known(store: Store) -> Iterator[Path]:
    layout = store.layout
    yield from (layout.format, layout.index, layout.index.with_name("index.sqlite-journal"), layout.gc_lock)
    yield from (layout.broken_index, layout.reserve)
    yield from layout.folders()
    for info in store.objects.all():
        yield from (layout.object(info.path), layout.manifest(info.path))
    facts = store.database.facts()
    yield from map(layout.realisation, facts)
    for output in facts:
        yield from (layout.derivation(output.derivation), layout.log(output.derivation))
    for each in store.roots.list():
        for folder in (layout.roots, layout.lineages):
            yield from ((folder / each.name).parent, folder / each.name)
    yield from layout.history.glob("*.jsonl")
    yield from (path for path in layout.evaluations.iterdir() if not path.name.startswith("."))
