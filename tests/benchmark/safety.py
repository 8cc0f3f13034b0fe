"""What `verify` and `gc` cost beside `nix-store`, in stores with the same objects."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from ccstore.model.objects import ObjectInfo
from ccstore.model.storepath import StorePath
from ccstore.store import canonical, manifest
from ccstore.store.files import remove
from ccstore.store.store import Store
from tests.benchmark.measure import Command, compare

DEAD, RUNS = 10_000, 5
AT_ONCE = 1000  # paths that one `nix-store --add` is given


def verify_rows(folder: Path, trees: list[Path], nix: Mapping[str, str], ccstore: Path) -> list[str]:
    """`verify` of a store that holds copies of `trees` and nothing else: two rows of the table."""
    with Store.open(folder / "store") as store, store.session() as session:
        for tree in trees:
            session.add(tree, tree.name.partition("-")[2])
    _nix_add(trees, nix)
    theirs = Command("nix-store", ["nix-store", "--verify", "--check-contents"], env=nix)
    rows = []
    for words, wanted in ((["verify"], 1 / 1.7), (["verify", "--full"], 1.2)):
        ours = Command("ccstore", [str(ccstore), *words, "--store", str(folder / "store")])
        found = compare(f"`{' '.join(words)}` of two kernel trees", round(wanted, 2), ours, theirs, RUNS)
        rows.append(found.row("`nix-store --verify --check-contents`"))
    return rows


def gc_row(folder: Path, nix: Mapping[str, str], ccstore: Path) -> str:
    """`gc` of objects that nothing needs; each run has them all again."""
    dead = [_small_tree(folder / f"dead/{number}", number) for number in range(DEAD)]
    _nix_add(dead, nix)
    _ours(folder / "ours", dead)
    state = Path(nix["NIX_STORE_DIR"]).parent
    argv = [str(ccstore), "gc", "--store", str(folder / "run")]
    ours = Command("ccstore", argv, prepare=_copier(folder / "ours", folder / "run"))
    subprocess.run(["cp", "-a", state, folder / "theirs"], check=True)
    theirs = Command("nix-store", ["nix-store", "--gc"], env=nix, prepare=_copier(folder / "theirs", state))
    return compare(f"`gc` of {DEAD:,} dead objects", 1, ours, theirs, RUNS).row("`nix-store --gc`")


def _small_tree(folder: Path, number: int) -> Path:
    (folder / "sub").mkdir(parents=True)
    for name in ("one", "sub/two"):
        (folder / name).write_text(f"{name} of {number}\n")
    return folder


def _ours(root: Path, trees: list[Path]) -> None:
    """Registers `trees` without waiting for the disk each time: they are there to be measured, not to be kept."""
    Store.open(root).close()
    (root / "index.sqlite").unlink()
    for tree in trees:
        scan = canonical.canonicalise(tree)
        info = ObjectInfo(StorePath.of_content("dead", scan.nar_hash), scan.nar_hash, scan.nar_size)
        place = root / "objects" / info.path.base
        tree.chmod(0o755)  # only a writable folder can be moved
        tree.rename(place)
        place.chmod(canonical.FOLDER_MODE)
        os.utime(place, ns=(canonical.MTIME_NS, canonical.MTIME_NS))
        header = manifest.Header(info, 1)
        (root / "manifests" / info.path.base).write_bytes(manifest.encode(header, scan.records))
    Store.open(root).close()


def _nix_add(paths: list[Path], nix: Mapping[str, str]) -> None:
    for at in range(0, len(paths), AT_ONCE):
        argv = ["nix-store", "--add", *map(str, paths[at : at + AT_ONCE])]
        subprocess.run(argv, env={**os.environ, **nix}, check=True, capture_output=True)


def _copier(source: Path, target: Path) -> Callable[[], None]:
    def copy() -> None:
        remove(target)
        subprocess.run(["cp", "-a", source, target], check=True)
        os.sync()

    return copy
