"""Damage that disks, file systems and people do to a store, of every class, chosen at random."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ccstore.store.files import remove
from ccstore.store.layout import Layout

Damager = Callable[[Layout, random.Random], Path]


@dataclass(frozen=True)
class Class:
    """`damage` does it once and says to which file; `kinds` are what `verify` may call it."""

    name: str
    damage: Damager
    kinds: frozenset[str]


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Opens the folder of `path` for a change that is to leave no other trace: its mode and times come back."""
    status = path.parent.lstat()
    path.parent.chmod(0o755)
    yield
    path.parent.chmod(stat.S_IMODE(status.st_mode))
    os.utime(path.parent, ns=(status.st_atime_ns, status.st_mtime_ns))


def rewrite(file: Path, data: bytes) -> None:
    """Other content under the same name, with the mode and times of before; links to the file keep the old one."""
    status = file.lstat()
    with writable(file):
        file.unlink()
        file.write_bytes(data)
        file.chmod(stat.S_IMODE(status.st_mode))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def flipped(data: bytes, source: random.Random) -> bytes:
    bit = source.randrange(8 * len(data))
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _inside(layout: Layout, source: random.Random, wanted: Callable[[Path], bool]) -> Path:
    """Something in the objects, or one of them, that is `wanted`."""
    found = [path for path in (*layout.objects.iterdir(), *layout.objects.rglob("*")) if wanted(path)]
    return source.choice(sorted(set(found)))


def is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def has_content(path: Path) -> bool:
    return is_file(path) and path.stat().st_size > 0


def is_real(path: Path) -> bool:
    return not path.is_symlink()


def is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def flip_a_bit(layout: Layout, source: random.Random) -> Path:
    file = _inside(layout, source, has_content)
    rewrite(file, flipped(file.read_bytes(), source))
    return file


def cut_a_file(layout: Layout, source: random.Random) -> Path:
    file = _inside(layout, source, has_content)
    data = file.read_bytes()
    rewrite(file, data[: source.randrange(len(data))])
    return file


def remove_a_file(layout: Layout, source: random.Random) -> Path:
    file = _inside(layout, source, lambda path: not is_folder(path) and path.parent != layout.objects)
    with writable(file):
        file.unlink()
    return file


def add_a_file(layout: Layout, source: random.Random) -> Path:
    file = _inside(layout, source, is_folder) / f"added-{source.randrange(1000)}"
    with writable(file):
        file.write_text("added")
    return file


def point_a_link_elsewhere(layout: Layout, source: random.Random) -> Path:
    link = _inside(layout, source, Path.is_symlink)
    with writable(link):
        link.unlink()
        link.symlink_to(f"elsewhere-{source.randrange(1000)}")
        os.utime(link, (1, 1), follow_symlinks=False)
    return link


def put_a_folder_in_its_place(layout: Layout, source: random.Random) -> Path:
    file = _inside(layout, source, lambda path: is_file(path) and path.parent != layout.objects)
    with writable(file):
        file.unlink()
        file.mkdir(0o555)
    return file


def remove_an_object(layout: Layout, source: random.Random) -> Path:
    path = source.choice(sorted(layout.objects.iterdir()))
    remove(path)
    return path


def change_a_mode(layout: Layout, source: random.Random) -> Path:
    """The owner's executable bit is content; any other is not."""
    path = _inside(layout, source, is_real)
    path.chmod(stat.S_IMODE(path.stat().st_mode) ^ source.choice([0o200, 0o044, 0o011, 0o4000, 0o1000]))
    return path


def change_what_is_executable(layout: Layout, source: random.Random) -> Path:
    file = _inside(layout, source, is_file)
    file.chmod(0o444 if file.stat().st_mode & stat.S_IXUSR else 0o555)
    return file


def change_a_time(layout: Layout, source: random.Random) -> Path:
    path = _inside(layout, source, lambda path: True)
    os.utime(path, (1, source.randrange(2, 10**9)), follow_symlinks=False)
    return path


def plant_a_stranger(layout: Layout, source: random.Random) -> Path:
    there = source.choice(sorted(layout.objects.iterdir()))
    path = layout.objects / source.choice([f"stranger-{source.randrange(1000)}", f"{there.name}-2"])
    path.write_text("nobody registered this")
    return path


def in_folder(
    choose: Callable[[Layout], list[Path]], change: Callable[[Path, random.Random], None]
) -> Damager:
    def damage(layout: Layout, source: random.Random) -> Path:
        file = source.choice(sorted(choose(layout)))
        change(file, source)
        return file

    return damage


def _damage_file(file: Path, source: random.Random) -> None:
    data = file.read_bytes()
    file.write_bytes(source.choice([flipped(data, source), data[: source.randrange(len(data))]]))


def _remove_file(file: Path, source: random.Random) -> None:
    file.unlink()


def cut_the_index(layout: Layout, source: random.Random) -> Path:
    data = layout.index.read_bytes()
    layout.index.write_bytes(data[: source.randrange(len(data))])
    return layout.index


def lose_the_index(layout: Layout, source: random.Random) -> Path:
    layout.index.unlink()
    return layout.index


def flip_a_bit_of_the_index(layout: Layout, source: random.Random) -> Path:
    """Not one of those that mean nothing, of which a database has many."""
    good, meaning = layout.index.read_bytes(), _meaning(layout.index)
    while _meaning(layout.index) == meaning:
        layout.index.write_bytes(flipped(good, source))
    return layout.index


SAID = (
    "PRAGMA user_version",
    "PRAGMA integrity_check",
    "SELECT base, nar_hash, nar_size FROM objects ORDER BY base",
    "SELECT derivation, output, base, object IS NULL FROM realisations ORDER BY derivation, output",
    "SELECT realisation, derivation, output FROM inputs",
)


def _meaning(index: Path) -> object:
    connection = sqlite3.connect(index)
    try:
        return [connection.execute(query).fetchall() for query in SAID]
    except (sqlite3.Error, UnicodeDecodeError):
        return None
    finally:
        connection.close()


def _files_of(name: str) -> Callable[[Layout], list[Path]]:
    return lambda layout: list((layout.root / name).iterdir())


def _roots(layout: Layout) -> list[Path]:
    return list(layout.roots.glob("*/*"))


CONTENT, METADATA = frozenset({"content"}), frozenset({"metadata"})
CLASSES = (
    Class("flipped bit in a file", flip_a_bit, CONTENT),
    Class("file cut short", cut_a_file, CONTENT),
    Class("removed file", remove_a_file, CONTENT),
    Class("added file", add_a_file, CONTENT),
    Class("changed link", point_a_link_elsewhere, CONTENT),
    Class("folder in the place of a file", put_a_folder_in_its_place, CONTENT),
    Class("removed object", remove_an_object, frozenset({"missing"})),
    Class("changed mode", change_a_mode, METADATA),
    Class("changed executable bit", change_what_is_executable, CONTENT | METADATA),
    Class("changed time", change_a_time, METADATA),
    Class("stranger among the objects", plant_a_stranger, frozenset({"stray"})),
    Class("damaged manifest", in_folder(_files_of("manifests"), _damage_file), frozenset({"manifest"})),
    Class("removed manifest", in_folder(_files_of("manifests"), _remove_file), frozenset({"manifest"})),
    Class(
        "damaged realisation", in_folder(_files_of("realisations"), _damage_file), frozenset({"realisation"})
    ),
    Class(
        "removed realisation", in_folder(_files_of("realisations"), _remove_file), frozenset({"realisation"})
    ),
    Class("damaged derivation", in_folder(_files_of("drvs"), _damage_file), frozenset({"derivation"})),
    Class("removed derivation", in_folder(_files_of("drvs"), _remove_file), frozenset({"derivation"})),
    Class("damaged root", in_folder(_roots, _damage_file), frozenset({"root"})),
    Class("database cut short", cut_the_index, frozenset({"index"})),
    Class("database lost", lose_the_index, frozenset({"index"})),
    Class("flipped bit in the database", flip_a_bit_of_the_index, frozenset({"index"})),
)
