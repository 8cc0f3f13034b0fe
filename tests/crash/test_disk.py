"""Disks that are full, fail or become read-only in the middle: an error in words, a whole store, and on it goes.

All of it happens in a mount namespace of a forked child: a tmpfs for disks that are full, an ext4 in a file for the
others. The file lies on a tmpfs with too little room for all of it, so that some blocks cannot be written (EIO), and
ext4's own switch makes it read-only as it does after an error.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.executor import enter
from ccstore.store.files import remove
from tests import namespaces
from tests.conftest import unmet
from tests.crash.killing import in_child, spread, steps_of
from tests.crash.tiny import Tiny, strays
from tests.store.samples import older

PAGE = 4096
ROOMY = 64 << 20  # bytes
COUNT = 16  # of each in a normal run


def apart(work: Callable[[], object], log: Path) -> None:
    """Does `work` in a child with mounts of its own, which must succeed."""

    def inside() -> None:
        if os.geteuid() == 0:
            enter.check(enter.libc.unshare(enter.CLONE_NEWNS))
            enter.mount("", "/", "", enter.MS_REC | enter.MS_PRIVATE)
        else:
            namespaces.unshare()
        work()

    assert in_child(inside, log) == 0, log.read_text()


def run(*argv: object) -> str:
    return subprocess.run([*map(str, argv)], check=True, capture_output=True, text=True).stdout


def fails(act: Callable[[], object], *codes: str) -> bool:
    """Whether `act` failed, in one of the ways that it may."""
    try:
        act()
    except CcError as error:
        if error.code not in codes:
            raise
        return True
    return False


def goes_on(tiny: Tiny, what: object) -> None:
    """The disk is well again: nothing that is registered is hurt, and everything works."""
    if (tiny.store / "format").exists():
        assert tiny.verify() == [], what
    tiny.realize()
    tiny.collect()
    assert strays(tiny.store) == [], what
    assert tiny.verify() == [], what


def spread_over(size: int, count: int) -> Iterator[int]:
    yield from (size * number // count for number in range(count + 1))


def size_of(tiny: Tiny, memory: Path) -> int:
    """What a disk must have for all of it, and what is needed while it is made."""
    whole = tiny.with_store_of_its_own(memory / "whole")
    whole.realize()
    return int(run("du", "-s", "-B1", whole.store).split()[0]) + (1 << 19)


def test_a_disk_that_is_full_at_every_size(tiny: Tiny, memory: Path, full: bool) -> None:
    """`gc` works on a disk on which nothing else does, and what it frees can be used."""
    need = size_of(tiny, memory)
    disk = memory / "disk"
    mine = tiny.with_store_of_its_own(disk / "store")
    budgets = range(PAGE, need, PAGE) if full else [*spread_over(need // PAGE, COUNT)]
    pages = [budget // PAGE for budget in budgets] if full else [max(1, budget) for budget in budgets]

    def work() -> None:
        disk.mkdir()
        failed = 0
        for count in pages:
            namespaces.mount_tmpfs(disk, f"size={count * PAGE},mode=755")
            failed += fails(mine.realize, "disk-full")
            if (mine.store / "index.sqlite").exists():
                assert mine.verify() == [], count
                mine.collect()
                assert mine.verify() == [], count
            enter.mount("", str(disk), "", enter.MS_REMOUNT, f"size={ROOMY}")
            goes_on(mine, count)
            enter.check(enter.libc.umount2(os.fsencode(disk), 0))  # umount(8) is for root alone
        print(f"{failed} of {len(pages)} disks were too small")
        assert failed > len(pages) / 2

    apart(work, memory / "log")
    print((memory / "log").read_text())


def test_nothing_is_added_where_a_collection_would_have_no_room(tiny: Tiny, memory: Path) -> None:
    """Not even what would fit."""
    disk = memory / "disk"
    mine = tiny.with_store_of_its_own(disk / "store")

    def work() -> None:
        namespaces.mount_tmpfs(disk, f"size={ROOMY},mode=755")
        mine.realize()
        (mine.store / "reserve").unlink()
        used = ROOMY - os.statvfs(disk).f_bavail * PAGE
        enter.mount("", str(disk), "", enter.MS_REMOUNT, f"size={used + 64 * PAGE}")
        before = sorted((mine.store / "objects").iterdir())
        mine.edit("another\n")
        assert fails(mine.realize, "disk-full")
        assert sorted((mine.store / "objects").iterdir()) == before
        assert os.statvfs(disk).f_bavail >= 60  # what could not be reserved is given back
        enter.mount("", str(disk), "", enter.MS_REMOUNT, f"size={ROOMY}")
        goes_on(mine, "")

    apart(work, memory / "log")


@pytest.mark.parametrize("upgraded", [False, True])
def test_a_disk_without_a_byte_left(upgraded: bool, tiny: Tiny, memory: Path) -> None:
    """Somebody else filled it: a collection is what makes room, so it must need none, not even for a new schema."""
    disk = memory / "disk"
    mine = tiny.with_store_of_its_own(disk / "store")

    def work() -> None:
        namespaces.mount_tmpfs(disk, f"size={ROOMY},mode=755")
        mine.realize()
        mine.edit("another\n")
        mine.realize()
        if upgraded:
            older(mine.store / "index.sqlite", 2)
        used = ROOMY - os.statvfs(disk).f_bavail * PAGE
        enter.mount("", str(disk), "", enter.MS_REMOUNT, f"size={used}")
        assert os.statvfs(disk).f_bavail == 0
        report = mine.collect()
        assert len(report.deleted) > 1
        assert os.statvfs(disk).f_bavail > 0
        enter.mount("", str(disk), "", enter.MS_REMOUNT, f"size={ROOMY}")
        goes_on(mine, "")

    apart(work, memory / "log")


@pytest.fixture
def root() -> None:
    if os.geteuid() != 0:
        unmet("only root can mount a disk that is a file: run the tests as root, as CI does")


class Disk:
    """An ext4 in a file, mounted at `place`; the file's own disk has `room` bytes."""

    def __init__(self, place: Path, room: int) -> None:
        self.place = place
        self._backing = place.with_name(f"{place.name}-backing")
        self._image = self._backing / "image"
        place.mkdir(exist_ok=True)
        namespaces.mount_tmpfs(self._backing, f"size={ROOMY}")
        with self._image.open("wb") as file:
            file.truncate(ROOMY // 2)
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=4", self._image)
        self._resize(room + int(run("du", "-s", "-B1", self._backing).split()[0]))
        self.mount()

    def _resize(self, size: int) -> None:
        enter.mount("", str(self._backing), "", enter.MS_REMOUNT, f"size={size}")

    def mount(self) -> None:
        run("mount", "-o", "loop,errors=remount-ro", self._image, self.place)

    def become_read_only(self) -> None:
        """As after an error that the kernel found: whatever is open, nothing can be written any more."""
        device = Path(run("findmnt", "-no", "SOURCE", self.place).strip()).name
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1")

    def heal(self) -> None:
        """The disk works again; what a file system check may do is done."""
        run("umount", self.place)
        self._resize(ROOMY)
        checked = subprocess.run(["e2fsck", "-fy", self._image], capture_output=True, text=True, check=False)
        assert checked.returncode in (0, 1), checked.stdout
        self.mount()

    def remove(self) -> None:
        run("umount", self.place)
        run("umount", self._backing)


def can_mount(memory: Path) -> None:
    try:
        apart(lambda: Disk(memory / "probe", ROOMY // 2).remove(), memory / "log")
    except AssertionError as error:
        unmet(f"this host mounts no disks that are files: {error}")


def test_a_disk_that_cannot_write_some_of_its_blocks(
    root: None, tiny: Tiny, memory: Path, full: bool, tool: Callable[[str], str]
) -> None:
    tool("e2fsck")
    can_mount(memory)
    need = size_of(tiny, memory)

    def work() -> None:
        failed = 0
        rooms = [*spread_over(need, 100 if full else COUNT)]
        for room in rooms:
            disk = Disk(memory / "disk", room)
            mine = tiny.with_store_of_its_own(memory / "disk/store")
            failed += fails(mine.realize, "disk-full", "disk-failed", "read-only-store")
            disk.heal()
            goes_on(mine, room)
            remove(mine.store)
            disk.remove()
        print(f"{failed} of {len(rooms)} disks failed")
        assert failed > len(rooms) / 2

    apart(work, memory / "log")
    print((memory / "log").read_text())


def test_a_disk_that_becomes_read_only_in_the_middle(
    root: None, tiny: Tiny, memory: Path, full: bool, tool: Callable[[str], str]
) -> None:
    tool("e2fsck")
    can_mount(memory)
    steps = steps_of(tiny.with_store_of_its_own(memory / "counted").realize)
    numbers = [*range(1, len(steps) + 1)] if full else spread(steps, COUNT)

    def work() -> None:
        for number in numbers:
            disk = Disk(memory / "disk", ROOMY // 2)
            mine = tiny.with_store_of_its_own(memory / "disk/store")
            left = iter(range(number - 1, -1, -1))

            def fault(step: str, left: Iterator[int] = left, disk: Disk = disk) -> None:
                if next(left, None) == 0:
                    disk.become_read_only()

            failed = fails(partial(mine.realize, fault), "read-only-store", "disk-failed")
            assert failed or steps[number - 1] == "root", number
            disk.heal()
            goes_on(mine, number)
            disk.remove()
        print(f"{len(numbers)} of {len(steps)} points")

    apart(work, memory / "log")
    print((memory / "log").read_text())
