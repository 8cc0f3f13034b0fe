"""Files that unrelated objects have in common are one inode; and nothing that is damaged becomes another object's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.model.objects import ObjectInfo
from ccstore.store import gc, verify
from ccstore.store.canonical import TIMES
from ccstore.store.files import remove
from ccstore.store.gc import GcOptions
from ccstore.store.measure import disk_usage
from ccstore.store.session import Session
from ccstore.store.sharing import Shared
from ccstore.store.store import Store
from tests.conftest import needs, requires, unmet
from tests.store.samples import listing, needs_mount, older, ordinary, python

LARGE = b"0" + os.urandom(2_499_999)
SAME, RUN = b"same" * 5000, b"run!" * 5000
OPTIMISE = GcOptions(optimise=True)


def tree(session: Session, name: str, **files: bytes) -> ObjectInfo:
    """Registers a tree; a file whose name begins with `run` is executable, `_` in a name stands for a folder."""
    with session.staging(name) as staging:
        for path, data in files.items():
            file = staging / "out" / path.replace("_", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            file.chmod(0o755 if file.name.startswith("run") else 0o644)
        return session.register(staging / "out", name)


def file(store: Store, info: ObjectInfo, name: str) -> Path:
    return store.objects.path(info.path) / name


def inodes(store: Store, name: str, *infos: ObjectInfo) -> set[int]:
    return {file(store, info, name).stat().st_ino for info in infos}


def part(store: Store, *infos: ObjectInfo) -> None:
    """Gives every file of these objects an inode of its own, as copying the store would."""
    for info in infos:
        place = store.objects.path(info.path)
        for folder, _, names in os.walk(place):
            Path(folder).chmod(0o755)
            for name in names:
                old, new = Path(folder, name), store.root / "new"
                shutil.copy2(old, new)
                new.replace(old)
            Path(folder).chmod(0o555)
            os.utime(folder, ns=TIMES)


def whole(store: Store) -> bool:
    return verify.verify(store, full=True) == []


def used(store: Store) -> int:
    return disk_usage([store.layout.objects])


@pytest.fixture
def parted(store: Store) -> tuple[Store, list[ObjectInfo]]:
    """Three objects with much in common and not one inode; roots keep them."""
    with store.session() as session:
        infos = [
            tree(session, "a", a_large=LARGE, a_b_run=RUN, own=b"1"),
            tree(session, "b", c_large=LARGE, run=RUN, own=b"2"),
            tree(session, "c", large=LARGE, d_run=RUN, d_e_own=b"3"),
        ]
        for info in infos:
            store.roots.add(f"p/{info.path.name}", info.path)
    part(store, *infos)
    assert whole(store)
    return store, infos


def test_what_is_registered_shares_with_unrelated_objects(store: Store) -> None:
    with store.session() as session:
        first = tree(
            session, "first", a_one=SAME, a_large=LARGE, other=b"1", runs=SAME, empty=b"", small=b"x"
        )
        before = used(store)
        second = tree(session, "second", b_c_uno=SAME, large=LARGE, other=b"2", runs=SAME, small=b"x")
    assert used(store) - before < 40_000
    one, two = (store.objects.path(each.path) for each in (first, second))
    assert (one / "a/large").samefile(two / "large")
    assert (one / "a/one").samefile(two / "b/c/uno")
    assert (one / "runs").samefile(two / "runs")
    assert not (one / "runs").samefile(two / "b/c/uno")  # executable, and not
    assert not (one / "small").samefile(two / "small")  # not worth it
    assert gc.collect(store, GcOptions(older_than=3600, optimise=True)).shared.files == 1
    assert (one / "small").samefile(two / "small")
    assert whole(store)


def test_single_files_and_nars_share_too(store: Store, tmp_path: Path) -> None:
    from io import BytesIO

    from ccstore.codec import nar

    with store.session() as session:
        first = tree(session, "first", large=LARGE)
        (tmp_path / "large").write_bytes(LARGE)
        second = session.add(tmp_path / "large", "large")
        data = BytesIO()
        nar.dump(tmp_path / "large", data.write)
        third = session.register_nar(BytesIO(data.getvalue()), "other", second.nar_hash)
    places = [file(store, first, "large"), store.objects.path(second.path), store.objects.path(third.path)]
    assert len({place.stat().st_ino for place in places}) == 1
    assert whole(store)


def test_two_files_of_one_object_stay_two(store: Store) -> None:
    """Whoever copies it with `cp -a` and appends to one would change both."""
    with store.session() as session:
        first = tree(session, "first", one=SAME, own=b"1")
        second = tree(session, "second", one=SAME, two=SAME, own=b"2")
        third = tree(session, "third", one=SAME, two=SAME, own=b"3")
    for info in (second, third):
        assert not file(store, info, "one").samefile(file(store, info, "two"))
    assert len(inodes(store, "one", second, third) | inodes(store, "two", second, third)) == 2
    assert inodes(store, "one", first) <= inodes(store, "one", second) | inodes(store, "two", second)
    gc.collect(store, GcOptions(optimise=True))
    for info in store.objects.all():
        names = [path.stat().st_ino for path in store.objects.path(info.path).iterdir()]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("hurt", ["content", "mode", "time", "cut", "attribute"])
def test_damage_does_not_spread(hurt: str, store: Store) -> None:
    with store.session() as session:
        first = tree(session, "first", large=LARGE)
        bad = file(store, first, "large")
        bad.chmod(0o644)
        if hurt == "content":
            with bad.open("r+b") as opened:
                opened.seek(2_000_000)
                opened.write(bytes([LARGE[2_000_000] ^ 1]))
        elif hurt == "cut":
            os.truncate(bad, 1000)
        elif hurt == "attribute":
            os.setxattr(bad, "user.note", b"x")
        if hurt != "mode":
            bad.chmod(0o444)
        os.utime(bad, ns=(0, 0) if hurt == "time" else TIMES)
        second = tree(session, "second", large=LARGE, more=b"1")
    assert len(inodes(store, "large", first, second)) == 2
    assert {each.path for each in verify.verify(store, full=True)} <= {first.path}
    store.roots.add("p/first", first.path)
    store.roots.add("p/second", second.path)
    assert gc.collect(store, OPTIMISE).shared == Shared()
    assert len(inodes(store, "large", first, second)) == 2


def test_damaged_in_the_same_way_is_not_good(parted: tuple[Store, list[ObjectInfo]]) -> None:
    """Both hold the same, which is not what either manifest says."""
    store, infos = parted
    for info, name in zip(infos[:2], ("a/large", "c/large"), strict=True):
        bad = file(store, info, name)
        bad.chmod(0o644)
        bad.write_bytes(b"x" + LARGE[1:])
        bad.chmod(0o444)
        os.utime(bad, ns=TIMES)
    gc.collect(store, OPTIMISE)
    assert not file(store, infos[0], "a/large").samefile(file(store, infos[1], "c/large"))
    assert not file(store, infos[0], "a/large").samefile(file(store, infos[2], "large"))


def test_a_repaired_object_does_not_take_the_damaged_inode(store: Store) -> None:
    with store.session() as session:
        first, second = (tree(session, name, large=LARGE, own=name.encode()) for name in ("first", "second"))
        bad = file(store, first, "large")
        assert bad.stat().st_nlink == 2
        bad.chmod(0o644)
        with bad.open("r+b") as opened:
            opened.write(b"x")
        bad.chmod(0o444)
        os.utime(bad, ns=TIMES)
        assert {each.path for each in verify.verify(store)} == {first.path, second.path}
        for info, name in ((first, "first"), (second, "second")):
            with session.staging("again") as staging:
                (staging / "out").mkdir()
                (staging / "out/large").write_bytes(LARGE)
                (staging / "out/own").write_bytes(name.encode())
                assert session.register(staging / "out", name, replace={info.path}) == info
    assert whole(store)
    assert len(inodes(store, "large", first, second)) == 1


def test_an_inode_with_all_its_names_is_copied(store: Store, tmp_path: Path) -> None:
    limit = os.pathconf(store.root, "PC_LINK_MAX")
    if limit > 70_000:
        pytest.skip(f"files of this file system can have {limit} names")
    with store.session() as session:
        first = tree(session, "first", one=SAME, own=b"1")
        names = tmp_path / "names"
        names.mkdir()
        for number in range(limit - 1):
            os.link(file(store, first, "one"), names / str(number))
        second = tree(session, "second", one=SAME, own=b"2")
        third = tree(session, "third", one=SAME, own=b"3")
        with session.staging("s") as staging:
            (staging / "upper").mkdir()
            (staging / "upper/more").write_bytes(b"x")
            fourth = session.register_overlay(first.path, staging / "upper", "fourth")
    assert len(inodes(store, "one", first, second)) == 2
    assert len(inodes(store, "one", second, third, fourth)) == 1  # the newest has names left
    assert whole(store)
    shutil.rmtree(names)


def test_optimising_shares_what_was_there_before(parted: tuple[Store, list[ObjectInfo]]) -> None:
    store, infos = parted
    before = used(store)
    planned = gc.collect(store, GcOptions(optimise=True, dry_run=True)).shared
    assert used(store) == before
    done = gc.collect(store, OPTIMISE).shared
    assert planned == done == Shared(4, before - used(store))
    assert done.freed > 2 * len(LARGE)
    names = ("a/large", "c/large", "large")
    assert len({file(store, *each).stat().st_ino for each in zip(infos, names, strict=True)}) == 1
    assert whole(store)
    assert gc.collect(store, OPTIMISE).shared == Shared()
    assert not store.layout.optimising.exists()


def test_a_store_of_an_older_version_and_a_new_index_know_the_files(
    parted: tuple[Store, list[ObjectInfo]],
) -> None:
    store, infos = parted
    older(store.layout.index, 1)
    with Store.open(store.root) as opened:
        assert gc.collect(opened, OPTIMISE).shared.files == 4
    part(store, *infos)
    store.rebuild_index()
    with store.session() as session:
        fourth = tree(session, "fourth", large=LARGE, own=b"4")
    names = ("a/large", "c/large", "large")
    old = {file(store, *each).stat().st_ino for each in zip(infos, names, strict=True)}
    assert inodes(store, "large", fourth) < old


def test_a_file_of_a_collected_object_is_found_no_more(store: Store) -> None:
    with store.session() as session:
        tree(session, "first", large=LARGE)
    gc.collect(store)
    with store.session() as session:
        second = tree(session, "second", large=LARGE, own=b"2")
    assert file(store, second, "large").stat().st_nlink == 1
    assert whole(store)


def test_what_a_session_needs_is_let_be(parted: tuple[Store, list[ObjectInfo]]) -> None:
    store, infos = parted
    with store.session() as session:
        session.protect(infos[1].path)
        session.protect(infos[2].path)
        assert gc.collect(store, OPTIMISE).shared == Shared()
    assert gc.collect(store, OPTIMISE).shared.files == 4


def test_a_collection_counts_what_is_shared_once(store: Store) -> None:
    with store.session() as session:
        infos = [tree(session, name, large=LARGE, own=name.encode() * 3000) for name in "abcd"]
    total = used(store) - store.layout.objects.stat().st_blocks * 512
    assert total < len(LARGE) + 100_000
    own = (total - disk_usage([file(store, infos[0], "large")])) // 4
    report = gc.collect(store, GcOptions(max_size=total - 1, dry_run=True))
    assert ([path.name for path in report.deleted], report.freed) == (["a"], own)
    report = gc.collect(store, GcOptions(max_size=total - own - 1))
    assert ([path.name for path in report.deleted], report.freed) == (["a", "b"], 2 * own)
    left = used(store) - store.layout.objects.stat().st_blocks * 512
    assert total - left == report.freed
    assert file(store, infos[3], "large").read_bytes() == LARGE
    assert gc.collect(store, GcOptions(max_size=0)).freed == left


KILLED = """
import os, signal, sys
from pathlib import Path
from ccstore.store import gc
from ccstore.store.gc import GcOptions
from ccstore.store.store import Store

steps = 0

def fault(done):
    global steps
    if done in {"mark", "open-folder", "link", "replace", "close-folder", "settle-folder", "unmark"}:
        print(done)
        steps += 1
        if steps == int(sys.argv[2]):
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)

with Store.open(Path(sys.argv[1])) as store:
    gc.collect(store, GcOptions(optimise=True), fault=fault)
"""
STEPS = {"mark", "link", "replace", "settle-folder", "unmark"}


@pytest.mark.parametrize("before", [(), "ordinary"])
def test_kill_9_between_two_steps(before: object, parted: tuple[Store, list[ObjectInfo]]) -> None:
    """An ordinary user also changes the modes of folders."""
    store, infos = parted
    store.close()
    count, hit = 1, set()
    while True:
        done = python(KILLED, str(store.root), str(count), before=ordinary() if before else ())
        hit |= {done.stdout.splitlines()[-1]}
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        with Store.open(store.root) as opened:
            assert whole(opened), done.stdout
            assert not opened.layout.optimising.exists()
            gc.collect(opened)
            assert listing(opened.layout.objects) == sorted(info.path.base for info in infos)
            assert sorted(each.path.name for each in opened.objects.all()) == ["a", "b", "c"]
            part(opened, *infos)
        count += 1
    assert hit >= STEPS | ({"open-folder", "close-folder"} if before and os.geteuid() == 0 else set())
    with Store.open(store.root) as opened:
        assert whole(opened)
        assert gc.collect(opened, OPTIMISE).shared == Shared()


def test_a_mark_that_says_nothing_is_removed(store: Store) -> None:
    store.layout.optimising.write_bytes(b"\xff\n")
    with Store.open(store.root) as opened:
        assert not opened.layout.optimising.exists()


def test_a_kill_while_verify_runs_is_no_damage(parted: tuple[Store, list[ObjectInfo]]) -> None:
    """It was opened before, and looks at the folder of another process that is gone by then."""
    store, infos = parted
    before = 2 if os.geteuid() == 0 else 3  # steps: an ordinary user opens a folder, too
    done = python(KILLED, str(store.root), str(before + 1))
    assert done.stdout.splitlines()[-1] == "replace"
    assert store.layout.optimising.exists()
    assert store.objects.path(infos[1].path).lstat().st_mtime_ns != 10**9 or (
        file(store, infos[1], "c").lstat().st_mtime_ns != 10**9
    )
    assert whole(store)


def test_beside_registration_verification_and_collection(parted: tuple[Store, list[ObjectInfo]]) -> None:
    store, infos = parted
    stop, failures = threading.Event(), []

    def act(work: object) -> None:
        try:
            with Store.open(store.root) as mine:
                while not stop.is_set():
                    if work == "optimise":
                        gc.collect(mine, OPTIMISE)
                    elif work == "verify":
                        assert [each for each in verify.verify(mine, full=True) if each.hurts] == []
                    else:
                        with mine.session() as session:
                            tree(session, str(work), large=LARGE, run=RUN, own=str(work).encode())
        except BaseException as error:
            failures.append(error)
            stop.set()

    works = ("optimise", "optimise", "verify", "x", "y")
    threads = [threading.Thread(target=act, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for _ in range(8):
        with store.gc_lock.exclusive():
            part(store, *infos)
        stop.wait(0.3)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert whole(store)


MOUNTED = """
import sys
from pathlib import Path
from ccstore.store import gc, verify
from ccstore.store.gc import GcOptions
from ccstore.store.store import Store
from tests.store.test_sharing import LARGE, file, tree
import os, subprocess

data = os.urandom(20_000_000)
with Store.open(Path(sys.argv[1])) as store:
    with store.session() as session:
        first = tree(session, "first", large=data)
        store.roots.add("p/first", first.path)
        place = str(store.objects.path(first.path))
        subprocess.run(["mount", "--bind", place, place], check=True)  # no link leads out of it
        subprocess.run(["sync", "-f", place], check=True)
        free = os.statvfs(place).f_bfree
        second = tree(session, "second", large=data, own=b"2")
        store.roots.add("p/second", second.path)
    assert not file(store, first, "large").samefile(file(store, second, "large"))
    assert verify.verify(store, full=True) == []
    shared = gc.collect(store, GcOptions(optimise=True)).shared
    assert verify.verify(store, full=True) == []
    subprocess.run(["sync", "-f", place], check=True)
    status = os.statvfs(place)
    print((free - status.f_bfree) * status.f_frsize, shared.files)
"""


@needs_mount
def test_a_file_that_cannot_be_linked_is_copied(tmp_path: Path) -> None:
    done = python(MOUNTED, str(tmp_path / "store"), before=("unshare", "-rm"))
    assert done.returncode == 0, done.stderr
    remove(tmp_path / "store")


@requires(os.geteuid() == 0, "only root can mount a disk")
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(["mkfs.btrfs", "-q"], marks=needs("mkfs.btrfs")),
        pytest.param(["mkfs.xfs", "-q", "-m", "reflink=1"], marks=needs("mkfs.xfs")),
    ],
    ids=["btrfs", "xfs"],
)
def test_a_file_that_cannot_be_linked_shares_its_blocks(make: list[str], tmp_path: Path) -> None:
    disk, place = tmp_path / "disk", tmp_path / "mounted"
    with disk.open("wb") as opened:
        opened.truncate(400 << 20)
    place.mkdir()
    subprocess.run([*make, disk], check=True, capture_output=True)
    line = 'mount -o loop "$0" "$1" && shift && exec "$@"'
    prefix = ("unshare", "-m", "sh", "-c", line, str(disk), str(place))
    done = python(MOUNTED, str(place / "store"), before=prefix)
    if "unknown filesystem type" in done.stderr:  # no package changes the kernel that runs the tests
        pytest.skip(f"this kernel does not know it: {done.stderr}")
    if "mount: " in done.stderr:
        unmet(f"no disk can be mounted here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    took, shared = map(int, done.stdout.split())
    assert took < 10_000_000
    assert shared == 1


def test_a_store_that_is_read_only_stays_as_it_is(parted: tuple[Store, list[ObjectInfo]]) -> None:
    store, _ = parted
    store.writable = False
    with pytest.raises(CcError) as caught:
        gc.collect(store, OPTIMISE)
    assert caught.value.code == "read-only-store"
