"""How fast ccstore is beside its rivals: `python -m tests.benchmark [noop] [nar] [tree] [kernel] [boot] …`.

Needs the kernel realised (`ccstore realize kernel kernel^dev`; it says which guests `agent` needs besides), and the
rivals where they are installed: `nix`, `bst` (BuildStream), tar, QEMU. It installs nothing on this machine, works in
a temporary folder (--tmp DIR: some 20 GB for `patched`), and writes the table and the chart beside this file
(--output DIR): results.md, results.svg.

noop    `ccstore realize kernel`, installed from a wheel, with nothing to do; `nix-build` and `bst build` of as many
        steps. Then one byte of a fragment is flipped, size and mtime kept, and `realize`, `path`, `plan` must notice
nar     NAR hash of the unpacked kernel tree; `nix hash path`
add     hashing the unpacked kernel tree and registering a copy of it; `nix-store --add`
tree    from the fetched tarball to the registered source tree; `tar -xJf` and `sync`
patched from the fetched tarball to the registered patched tree; `nix-build` of the same
kernel  the last step of `realize kernel`; the same `make` by hand, chrooted into the same toolchain
comment `realize kernel` after a comment in a config fragment; the kernel by `make`, which Nix would build
change  `realize --assist` and `--incremental` after a changed line of C, and after a changed header that nearly
        everything includes; a cold `realize`
eta     the time that `plan` foretells for a project made again; the time that it takes
boot    guest time to user space (no rival)
agent   QEMU's start to READY of `clear-containers-minimal`; a bare init in its place; `clear-containers`
formats guest time to user space of a root with 260 MB of data, in each disk format; the same guest without them
run     `ccstore run` of a guest that powers off at once; the same QEMU command by hand
push    `ccstore cache push` of the kernel tree and of the kernel into a folder; `nix copy --to file://`
pull    `ccstore cache pull` of both into an empty store; `nix copy --from file://`
verify  `ccstore verify` and `verify --full` of two kernel trees; `nix-store --verify --check-contents`
disk    what ten patch sets of one kernel take on the disk; one tree
scale   opening a store of a million objects, `path`, no-op `realize`, `gc --dry-run`; a store of a thousand
gc      `ccstore gc` of 10,000 dead objects; `nix-store --gc`
executors
        what a derivation that does nothing takes in the sandbox, in Docker, and on a buildbox-casd
fanout  100 configurations of the tiny kernel on a cluster of 1, 2 and 4 workers (no rival; needs PostgreSQL)
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterable
from pathlib import Path

from ccstore.build.workspace import Workspace
from ccstore.guest.boot import BootImage
from ccstore.model.graph import Build
from tests import scale
from tests.benchmark import (
    agent,
    bst,
    caches,
    edits,
    executors,
    fanout,
    formats,
    patched,
    report,
    room,
    run,
    safety,
    schedule,
)
from tests.benchmark.measure import Command, compare
from tests.boots import MACHINES, boot
from tests.conftest import REPOSITORY, clone_store, write

CCSTORE = Path(sys.executable).parent / "ccstore"
# works that are nothing without Nix
BESIDE_NIX = ("nar", "add", "patched", "push", "pull", "verify", "gc")
GUESTS = ("clear-containers-minimal.vmlinux+initrd", "clear-containers.vmlinux+initrd")  # of the work `agent`


def main() -> None:
    works: dict[str, Callable[[Path], None]] = {
        "noop": noop,
        "nar": nar,
        "add": add,
        "tree": tree,
        "patched": patched_tree,
        "kernel": kernel,
        "comment": comments,
        "change": lambda folder: _show(edits.change_rows(_loop(folder))),
        "eta": estimates,
        "boot": boots,
        "agent": agents,
        "formats": disks,
        "run": runs,
        "push": lambda folder: sharing("push", folder),
        "pull": lambda folder: sharing("pull", folder),
        "verify": verifications,
        "disk": room_on_disk,
        "scale": scales,
        "gc": collections,
        "executors": lambda folder: _show(executors.rows(folder, _store())),
        "fanout": lambda folder: _show(fanout.rows(folder, _store())),
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", nargs="*", choices=[[], *works], default=list(works))
    parser.add_argument(
        "--tmp",
        type=lambda name: Path(name).absolute(),
        default=None,
        help="folder for what is made and removed again",
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder for the table")
    chosen = parser.parse_args()
    measured = [name for name in chosen.work if name not in BESIDE_NIX or _nix_is_there(name)]
    if measured:
        _require("kernel", "kernel^dev", *(GUESTS if "agent" in measured else ()))
    for name in measured:
        with tempfile.TemporaryDirectory(dir=chosen.tmp, prefix="ccstore-benchmark-") as folder:
            with contextlib.redirect_stdout(report.Printed()) as printed:
                works[name](Path(folder))
            report.keep(chosen.output, name, printed.rows, works)
            _forget(*Path(folder).iterdir())


def _require(*targets: str) -> None:
    """Ends here, not two hours later, if one of them is not realised."""
    known = [
        subprocess.run([CCSTORE, "path", each], cwd=REPOSITORY, capture_output=True, check=False)
        for each in targets
    ]
    if any(found.returncode for found in known):
        raise SystemExit(
            f"not everything that is measured is realised: run `ccstore realize {' '.join(targets)}` first"
        )


def _show(rows: Iterable[str]) -> None:
    """Each as soon as it is measured."""
    for row in rows:
        print(row)


def _nix_is_there(work: str) -> bool:
    if shutil.which("nix"):
        return True
    print(f"nix is not installed: {work} is not measured beside it, earlier figures stay", file=sys.stderr)
    return False


def _path(target: str) -> Path:
    found = subprocess.run(
        [CCSTORE, "path", target], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return Path(found.stdout.strip())


def _store() -> Path:
    return Path(os.environ.get("CCSTORE_STORE", REPOSITORY / "store"))


def noop(folder: Path) -> None:
    """In a copy of the project and of its store, as a fragment is changed."""
    ccstore = _from_wheel(folder)
    project = folder / "project"
    for name in ("recipes", "kernel"):
        shutil.copytree(REPOSITORY / name, project / name, symlinks=True)
    store = {"CCSTORE_STORE": str(clone_store(_store(), folder / "store"))}
    verbs = {
        verb: Command("ccstore", [str(ccstore), verb, "kernel"], cwd=project, env=store)
        for verb in ("realize", "path", "plan")
    }
    ours = verbs["realize"]
    ours.run()  # the answer is cached for this installation
    count = _derivations()
    if _nix_is_there("noop"):
        nix = Command("nix-build", ["nix-build", "--no-out-link", _chain(folder, count)], env=_nix(folder))
        nix.run()
        for verb, command in verbs.items():
            result = compare(f"no-op `{verb} kernel`", 1.0, command, nix, 41)
            print(result.row(f"`nix-build`, a chain of {count} derivations"))
    if other := bst.chain(folder, count):
        print(
            compare("no-op `realize kernel`", 0.06, ours, other, 11).row(f"`bst build`, a chain of {count}")
        )
    _flip_byte(project / "kernel/config/base.config")
    for argv, status, said in (
        (["path", "kernel"], 5, ""),
        (["plan", "kernel"], 0, "copy     ./kernel/config/base.config"),
        (["realize", "kernel", "--dry-run"], 0, "copy     ./kernel/config/base.config"),
    ):
        done = subprocess.run(
            [ccstore, *argv], cwd=project, env=os.environ | store, capture_output=True, text=True, check=False
        )
        if done.returncode != status or not done.stdout.startswith(said):
            raise SystemExit(f"a flipped byte was not noticed by {argv}: {done.stdout}{done.stderr}")
    print("| a byte flipped, size and mtime kept | – | noticed | noticed |")


def _flip_byte(file: Path) -> None:
    """Changes one byte of a comment, and nothing else that `ls` shows."""
    before, data = file.stat(), bytearray(file.read_bytes())
    data[data.index(b"#") + 2] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def _from_wheel(folder: Path) -> Path:
    """An installation as users have it: entry points of an editable one are slower."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(REPOSITORY)], check=True)
    return folder / "venv/bin/ccstore"


def _derivations() -> int:
    with Workspace.open(REPOSITORY, _store()) as work:
        return sum(isinstance(step, Build) for step in work.graph.closure(work.graph.find("kernel")))


def _nix(folder: Path) -> dict[str, str]:
    settings = "build-users-group =\nsandbox = false\nsubstituters =\nexperimental-features = nix-command\n"
    write(folder / "nix/nix.conf", settings)
    top = folder / "nix"
    return {
        "NIX_CONF_DIR": str(top),
        "NIX_STORE_DIR": str(top / "store"),
        "NIX_STATE_DIR": str(top / "state"),
        "NIX_LOG_DIR": str(top / "log"),
        "NIX_REMOTE": "",
    }


def _chain(folder: Path, length: int) -> str:
    steps = "".join(
        f'd{i} = derivation {{ name = "d{i}"; system = builtins.currentSystem; builder = "/bin/sh"; '
        f'args = ["-c" "echo ${{{f"d{i - 1}" if i else "toString 0"}}} > $out"]; }};\n'
        for i in range(length)
    )
    return str(write(folder / "chain.nix", f"let\n{steps}in d{length - 1}\n"))


def nar(folder: Path) -> None:
    source = _path("kernel.tree")
    code = "import sys; from pathlib import Path; from ccstore.codec.nar import nar_hash; nar_hash(Path(sys.argv[1]))"
    ours = Command("ccstore", [sys.executable, "-c", code, str(source)])
    nix = Command("nix", ["nix", "hash", "path", str(source)], env=_nix(folder))
    print(compare("NAR hash of the kernel tree", 1.2, ours, nix, 7).row("`nix hash path`"))


def add(folder: Path) -> None:
    source, store, nix = _path("kernel.tree"), folder / "store", _nix(folder)
    code = (
        "import sys; from pathlib import Path; from ccstore.store.store import Store\n"
        "with Store.open(Path(sys.argv[2])) as store, store.session() as session:\n"
        "    session.add(Path(sys.argv[1]), 'tree')"
    )

    def fresh(*folders: Path) -> None:
        _set_aside(folder, *folders)
        os.sync()

    argv = [sys.executable, "-c", code, str(source), str(store)]
    ours = Command("ccstore", argv, prepare=lambda: fresh(store))
    argv = ["nix-store", "--add", str(source)]
    theirs = Command(
        "nix-store", argv, env=nix, prepare=lambda: fresh(folder / "nix/store", folder / "nix/state")
    )
    print(
        compare("the kernel tree hashed, and a copy registered", None, ours, theirs, 5).row(
            "`nix-store --add`"
        )
    )


def tree(folder: Path) -> None:
    tarball, store = _path("kernel.source"), folder / "store"
    unpacked = folder / "unpacked"

    def fresh_store() -> None:
        _set_aside(folder, store)
        _without(clone_store(_store(), store), "kernel.tree")
        os.sync()

    def fresh_folder() -> None:
        _set_aside(folder, unpacked)
        unpacked.mkdir()
        os.sync()

    ours = _realizing("kernel.tree", store, fresh_store)
    line = 'tar -xJf "$0" -C "$1" && sync -f "$1"'
    tar = Command("tar", ["sh", "-c", line, str(tarball), str(unpacked)], prepare=fresh_folder)
    print(compare("tarball to registered source tree", 1.5, ours, tar, 5).row("`tar -xJf`, `sync`"))


def _realizing(target: str, store: Path, prepare: Callable[[], None]) -> Command:
    argv = [str(CCSTORE), "realize", target, "--store", str(store)]
    return Command("ccstore", argv, cwd=REPOSITORY, prepare=prepare)


def patched_tree(folder: Path) -> None:
    store = folder / "store"

    def fresh_store() -> None:
        _set_aside(folder, store)
        _without(clone_store(_store(), store), "kernel.tree", "kernel.patched")
        os.sync()

    ours = _realizing("kernel.patched", store, fresh_store)
    print(patched.row(folder, ours, _path("kernel.source"), _nix(folder)))


def comments(folder: Path) -> None:
    print(edits.comment_row(_loop(folder), _cold_make(folder)))


def _loop(folder: Path) -> edits.Loop:
    store = clone_store(_store(), folder / "store")
    for kept in ("ccache", "warm"):  # help from earlier builds
        shutil.rmtree(store / kept)
        (store / kept).mkdir()
    return edits.Loop.of_repository(folder / "project", store, CCSTORE, _path("kernel.patched"))


def estimates(folder: Path) -> None:
    print(schedule.row(folder / "project", clone_store(_store(), folder / "store")))


def kernel(folder: Path) -> None:
    store = folder / "store"

    def fresh_store() -> None:
        _forget(store)
        _without(clone_store(_store(), store), "kernel", "kernel^dev")

    ours = _realizing("kernel", store, fresh_store)
    result = compare("the kernel build in `realize`", 1.02, ours, _cold_make(folder), 1)
    print(result.row("the same `make` by hand"))


def _cold_make(folder: Path) -> Command:
    """The kernel from its patched tree and its config, by hand."""
    toolchain, source, config = _path("toolchain"), _path("kernel.patched"), _path("kernel.config")

    def fresh_folder() -> None:
        _forget(folder / "make")
        (folder / "make").mkdir()

    script = write(folder / "make.sh", _MAKE)
    argv = ["unshare", "--mount", "--map-root-user", "sh", str(script)]
    argv += [str(toolchain), str(source), str(config), str(folder / "make")]
    return Command("make", argv, prepare=fresh_folder)


_MAKE = """set -e
root=$1 source=$2 config=$3 build=$4
mount --bind "$root" "$root"
mount --bind "$build" "$root/build"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/in"
mkdir "$root/in/tree"
mount --bind "$source" "$root/in/tree"
mount --rbind /dev "$root/dev"
cp "$config" "$build/.config"
export PATH=/usr/bin LC_ALL=C.UTF-8 KBUILD_BUILD_USER=ccstore KBUILD_BUILD_HOST=ccstore KBUILD_BUILD_VERSION=1
export KBUILD_BUILD_TIMESTAMP="Thu Jan  1 00:00:01 UTC 1970"
exec /usr/sbin/chroot "$root" make -C /in/tree O=/build -j"$(nproc)" LOCALVERSION= vmlinux bzImage headers_install
"""


def boots(folder: Path) -> None:
    initramfs = _bare_initramfs(folder)
    qemu = shutil.which("qemu-system-x86_64") or sys.exit("qemu-system-x86_64 is not installed")
    for machine in MACHINES:
        guests = [boot(qemu, _path("kernel") / "vmlinux", initramfs, machine) for _ in range(7)]
        seconds = statistics.median(guest.seconds for guest in guests)
        name = machine.partition(",")[0]
        print(
            f"| vmlinux to user space, {name}, software emulation | – | < 2 s | {seconds:.2f} s of guest time |"
        )


def _bare_initramfs(folder: Path) -> Path:
    """An initramfs whose init prints a line."""
    project = write(folder / "recipes/ccstore.yml", "project: benchmark\n").parent.parent
    names = ("recipes/toolchain.yml", "tests/data/guest/initramfs.yml")
    imports = ", ".join(str(REPOSITORY / name) for name in names)
    write(folder / "recipes/imports.yml", f"import: [{imports}]\nkind: path\npath: ccstore.yml\n")
    [initramfs] = _realize(project, ["initramfs"])
    return initramfs


def _realize(project: Path, targets: list[str]) -> list[Path]:
    """Makes targets of another project in this one's store."""
    argv = [str(CCSTORE), "realize", *targets, "--store", str(_store())]
    found = subprocess.run(argv, cwd=project, stdout=subprocess.PIPE, text=True, check=True)
    return [Path(line) for line in found.stdout.splitlines()]


def agents(folder: Path) -> None:
    minimal, service = (BootImage.read(_path(guest)) for guest in GUESTS)
    first, second = agent.measure(minimal, service, _bare_initramfs(folder), folder)
    print(first.row("agent READY as PID 1", "a bare init that prints a line", 1.3))
    print(second.row("agent READY as a service container", "as PID 1", 1.5))


def disks(folder: Path) -> None:
    print(*formats.rows(folder, _realize), sep="\n")


def runs(folder: Path) -> None:
    print(run.row(folder, _path("kernel") / "vmlinux"))


def sharing(work: str, folder: Path) -> None:
    _nix(folder)
    nix = {**os.environ, "NIX_CONF_DIR": str(folder / "nix"), "NIX_USER_CONF_FILES": ""}
    objects = {"the kernel tree": _path("kernel.tree"), "the kernel": _path("kernel")}
    sides = caches.Sides(folder, _from_wheel(folder), _store(), nix, _forget)
    print(*sides.rows(work, objects), sep="\n")


def verifications(folder: Path) -> None:
    trees = [_path("kernel.tree"), _path("kernel.patched")]
    print(*safety.verify_rows(folder, trees, _nix(folder), _from_wheel(folder)), sep="\n")


def collections(folder: Path) -> None:
    print(safety.gc_row(folder, _nix(folder), _from_wheel(folder)))


def room_on_disk(folder: Path) -> None:
    print(room.row(folder / "project", _path("kernel.tree"), clone_store(_store(), folder / "store")))


def scales(folder: Path) -> None:
    """Needs some 13 GB and, to make the store, five minutes of CPU time."""
    large, small = scale.Size(), scale.Size(1000, 200, 5)
    stores = {folder / "small": small, folder / "large": large}
    for store, size in stores.items():
        scale.make(store, size)
    few, many = scale.measure(*stores)
    for words, wanted in (("open", 1.5), ("path", 1.1), ("realize", 1.1)):
        ratio = many[words].cpu / few[words].cpu
        figures = f"{many[words].cpu:.3f} s / {few[words].cpu:.3f} s"
        work = f"`{words}` in a store of {large.objects:,} objects, CPU"
        runs = scale.RUNS[words]
        print(
            f"| {work} | one of {small.objects:,} | ≤ {wanted} × | {ratio:.2f} × ({figures}; median of {runs}) |"
        )
    found = many["gc --dry-run"]
    measured = f"{found.wall:.1f} s (CPU {found.cpu:.1f} s), {found.megabytes:.0f} MB"
    print(f"| `gc --dry-run` of {large.objects:,} objects | – | 5 s, 500 MB | {measured} |")


def _without(store: Path, *targets: str) -> None:
    """Takes objects of the project out of a copy of its store, as if they had been collected."""
    subprocess.run(["rm", "-rf", str(store / "roots")], check=True)
    (store / "roots").mkdir()
    with Workspace.open(REPOSITORY, store) as work:
        known = [work.realised(work.graph.find(target)) for target in targets]
    for target, realisation in zip(targets, known, strict=True):
        if realisation is None:
            raise SystemExit(f"{target} is not realised: run `ccstore realize {target}` first")
        (store / "realisations" / f"{realisation.id}.json").unlink()
        _set_aside(store.parent, store / "objects" / realisation.object.path.base)


def _set_aside(folder: Path, *paths: Path) -> None:
    """Out of the way, in `folder`, until the work is done: ext4 without a journal is slow in making files for five
    minutes after many were deleted, as it passes over their inodes."""
    for path in paths:
        if path.exists():
            if path.is_dir():
                path.chmod(0o755)  # only a writable folder can move to another parent
            path.rename(Path(tempfile.mkdtemp(dir=folder, prefix="old-")) / path.name)


def _forget(*paths: Path) -> None:
    """Deletes trees whose folders are read-only; files may be shared with a store and keep their modes."""
    for path in paths:
        if path.exists():
            subprocess.run(["find", path, "-type", "d", "-exec", "chmod", "u+w", "{}", "+"], check=True)
            subprocess.run(["rm", "-rf", path], check=True)


if __name__ == "__main__":
    main()
