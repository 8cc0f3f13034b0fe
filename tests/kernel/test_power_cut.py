"""The power is cut: a guest's disk as it was at each flush of everything that ccstore did there.

SIGKILL leaves the page cache alone and proves nothing about fsync. Here a guest with the repository's kernel realizes
and collects on an ext4 whose every write QEMU logs (`blklogwrites`). The log is played back on the host: at each
flush, and where a command had just succeeded, the disk is mounted, with what was flushed and with some of the rest.
What had succeeded must be there, `verify --full` must be clean, and it must go on working.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ccstore.store.store import Store
from tests.conftest import REPOSITORY, Shell, unmet
from tests.crash import guest
from tests.crash.logwrites import FLUSH, Cut, read
from tests.crash.test_disk import apart, can_mount, goes_on, run
from tests.crash.tiny import Tiny, make

VERSIONS = 3
COUNT = 40  # of the disks that are mounted, in a normal run
MACHINE = [
    "-M",
    "q35",
    "-accel",
    "tcg",
    "-cpu",
    "max",
    "-m",
    "512M",
    "-display",
    "none",
    "-nodefaults",
    "-no-reboot",
]
ROOT = "root=host rootfstype=9p rootflags=trans=virtio,version=9p2000.L,cache=loose,msize=500000 ro"
BOOT = f"console=ttyS0 panic=-1 reboot=t quiet i8042.noaux=1 no_timer_check {ROOT}"


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]) -> list[Tiny]:
    """Versions of the tiny project, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("versions")
    made = []
    for number in range(VERSIONS):
        tiny = make(folder / str(number), folder / "mount/store", tool("busybox"))
        tiny.edit(f"version {number}\n")
        made.append(tiny)
    (folder / "mount").mkdir()
    return made


@pytest.fixture(scope="module")
def log(real_kernel: Shell, projects: list[Tiny], tool: Callable[[str], str]) -> Path:
    """Every write of a guest that realizes one version after the other; beside it `empty`, the disk before."""
    if os.geteuid() != 0:
        unmet("only root can mount a disk that is a file: run the tests as root, as CI does")
    folder = projects[0].store.parent.parent
    empty, log = folder / "empty", folder / "log"
    with empty.open("wb") as file:
        file.truncate(guest.FILE_SYSTEM + (1 << 20))
    run(tool("mkfs.ext4"), "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=4", empty, "64M")
    shutil.copyfile(empty, folder / "disk")
    log.touch()
    _boot(tool("qemu-system-x86_64"), real_kernel.path("kernel") / "vmlinux", folder, projects)
    return log


def _boot(qemu: str, kernel: Path, folder: Path, projects: list[Tiny]) -> None:
    init = folder / "init"
    words = " ".join(str(each) for each in (projects[0].store.parent, *(tiny.root for tiny in projects)))
    path = os.pathsep.join((str(REPOSITORY), *filter(None, sys.path)))
    init.write_text(
        f"#!/bin/sh\nexport PATH={os.environ['PATH']} PYTHONPATH={path} PYTHONDONTWRITEBYTECODE=1\n"
    )
    with init.open("a") as file:
        file.write(f"exec {sys.executable} -m tests.crash.guest {words}\n")
    init.chmod(0o755)
    share = "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"
    disks = ["-blockdev", f"driver=file,node-name=disk,filename={folder}/disk"]
    disks += ["-blockdev", f"driver=file,node-name=writes,filename={folder}/log"]
    disks += ["-blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=writes,log-sector-size=512"]
    argv = [qemu, *MACHINE, "-serial", "stdio", "-kernel", str(kernel), "-append", f"{BOOT} init={init}"]
    argv += ["-fsdev", share, "-device", "virtio-9p-pci,fsdev=host,mount_tag=host", *disks]
    argv += ["-device", "virtio-blk-pci,drive=logged"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=900, check=False)
    console = done.stdout.decode(errors="replace")
    assert "ccstore-guest: done" in console, f"{console[-4000:]}\n{done.stderr.decode(errors='replace')}"


def cuts(log: Path, image: Path, count: int | None) -> Iterator[Cut]:
    """The disk at `count` of the flushes and marks (all of them, if None), spread over the log."""
    entries = list(read(log))
    places = [n for n, each in enumerate(entries) if each.flags & FLUSH or each.at >= guest.FILE_SYSTEM]
    step = max(1, len(places) // count) if count else 1
    chosen = {*places[::step], *(n for n in places if entries[n].at >= guest.FILE_SYSTEM)}
    cut = Cut(image, guest.FILE_SYSTEM)
    for number, entry in enumerate(entries):
        cut.take(entry)
        if number in chosen:
            yield cut


def test_what_is_on_a_disk_whose_power_was_cut(
    log: Path, projects: list[Tiny], memory: Path, full: bool, tool: Callable[[str], str]
) -> None:
    tool("e2fsck")
    can_mount(memory)
    image, copy, place = memory / "durable", memory / "copy", memory / "mount"
    shutil.copyfile(log.with_name("empty"), image)
    place.mkdir()
    source = random.Random(3)

    def work() -> None:
        mounted = 0
        for cut in cuts(log, image, None if full else COUNT):
            for some_more in (False, True):
                shutil.copyfile(image, copy)
                if some_more:
                    cut.with_some_of_the_rest(copy, source)
                run("mount", "-o", "loop", copy, place)
                _check(cut, projects, place)
                run("umount", place)
                mounted += 1
        print(f"{mounted} disks, {len(cut.marks)} marks")

    apart(work, memory / "log")
    print((memory / "log").read_text())


def _check(cut: Cut, projects: list[Tiny], place: Path) -> None:
    store = place / "store"
    realized = [mark.split()[1:] for mark in cut.marks if mark.startswith("realized")]
    what = (cut.marks[-1:], len(cut.pending))
    if realized:
        number, *answers = realized[-1]
        with Store.open(store, create=False) as opened:
            assert {info.path.base for info in opened.objects.all()} >= set(answers), what
            roots = {root.path.base for root in opened.roots.list()}
        following = cut.marks[-1] == f"collected {number}"  # the next version may have taken over some roots
        assert following or roots == set(answers), what
    under_way = projects[min(len(realized), VERSIONS - 1)]  # half a download of it is kept for it
    goes_on(replace(under_way, store=store), what)
