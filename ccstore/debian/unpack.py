"""`builtin:debian-tree`: a root tree out of Debian packages.

First everything is planned: each package is listed and judged, paths are mapped to the merged /usr, what the
recipe excludes is left out, packages that disagree about a path are an error. Only then is the tree written, in
one sorted pass. No maintainer script runs; ownership, times and set-uid bits are dropped. Besides the packages'
files the tree has:

    bin sbin lib lib64          -> usr/…
    in build out tmp dev proc   empty, for the sandbox to mount on
    etc/passwd etc/group        root and the sandbox's user, unless a package has them
    var/lib/dpkg/status         what the tree is made of, as dpkg would have noted it

Whoever changes what tree the same packages and texts give raises `DEBIAN_TREE_REVISION` (ccstore.model.derivation).
"""

from __future__ import annotations

import fnmatch
import os
import queue
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ccstore.builders.archive import DIRECTORY, FILE, HARDLINK, SYMLINK, printable
from ccstore.debian.package import Package, Packed, Spool, read_package
from ccstore.errors import CcError
from ccstore.ports import Cancel, Tree

MERGED = (b"bin", b"sbin", b"lib", b"lib64")
MOUNT_POINTS = (b"in", b"build", b"out", b"tmp", b"dev", b"proc")
STATUS = b"var/lib/dpkg/status"
_TEXTS = {
    b"etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nbuilder:x:1000:1000:builder:/build:/bin/sh\n",
    b"etc/group": b"root:x:0:\nbuilder:x:1000:\n",
}
_WORKERS = 4


@dataclass(frozen=True, slots=True)
class Node:
    """One path of the tree to be: a folder, a link to `target`, or a file of `size` bytes.

    A file's bytes are `text`, or lie in `spool` (a descriptor) from `offset` on. `owner` is the package.
    """

    kind: str
    owner: str
    target: bytes = b""
    executable: bool = False
    size: int = 0
    spool: int = -1
    offset: int = 0
    text: bytes = b""

    def read(self) -> Iterator[bytes]:
        at, end = self.offset, self.offset + self.size
        if self.spool < 0:
            yield self.text
        while self.spool >= 0 and at < end:
            chunk = os.pread(self.spool, min(1 << 20, end - at), at)
            at += len(chunk)
            yield chunk


Plan = dict[bytes, Node]


def debian_tree(inputs: Mapping[str, Tree], files: Mapping[str, str], out: Path, cancel: Cancel) -> None:
    """Writes the tree to `out`, which must not exist; its parent must.

    `inputs` are the `.deb` files by package name. `files["links"]` has a line `path -> target` for each link to
    make, `files["exclude"]` (it may be missing) a glob for each kind of path to leave out; `*` matches `/` too.
    Raises `archive-refused` for a hostile or damaged package, `output-invalid` when packages disagree,
    `recipe-invalid` for a link that leads nowhere, and `interrupted`.
    """
    with ExitStack() as stack:
        workers = min(_WORKERS, os.cpu_count() or 1)
        spools = [Spool(stack.enter_context(tempfile.TemporaryFile(dir=out.parent))) for _ in range(workers)]
        packages = _read_all(inputs, spools, cancel)
        plan = _plan(packages, _excluder(files.get("exclude", "")))
        _add_own(plan, packages)
        _add_links(plan, files.get("links", ""))
        _write(plan, out, cancel)


def _read_all(inputs: Mapping[str, Tree], spools: list[Spool], cancel: Cancel) -> list[Package]:
    """The packages in the order of their names; decompression runs in threads, each with a spool of its own."""
    free: queue.SimpleQueue[Spool] = queue.SimpleQueue()
    for spool in spools:
        free.put(spool)

    def read(name: str) -> Package:
        _stop_if(cancel)
        spool = free.get()
        try:
            return read_package(name, inputs[name].path, spool)
        finally:
            free.put(spool)

    with ThreadPoolExecutor(len(spools)) as pool:
        tasks = [pool.submit(read, name) for name in sorted(inputs)]
        try:
            return [task.result() for task in tasks]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _stop_if(cancel: Cancel) -> None:
    if cancel.cancelled:
        raise CcError("interrupted", "unpacking was interrupted", hint="run the same command to go on")


def _excluder(globs: str) -> re.Pattern[str]:
    """Matches the paths to leave out; with no globs, none."""
    return re.compile("|".join(fnmatch.translate(glob) for glob in globs.splitlines() if glob) or "(?!)")


def _plan(packages: Iterable[Package], excluded: re.Pattern[str]) -> Plan:
    plan: Plan = {b"": Node(DIRECTORY, ""), b"usr": Node(DIRECTORY, "")}
    for top in MERGED:
        plan[b"usr/" + top] = Node(DIRECTORY, "")
        plan[top] = Node(SYMLINK, "", target=b"usr/" + top)
    for package in packages:
        mine: Plan = {}
        for packed in package.entries:
            path = merged(packed.member.path)
            node = mine[path] = _node(packed, package.name, mine)
            if path not in MERGED and not excluded.match(os.fsdecode(path)):
                _add(plan, path, node)
    return plan


def merged(path: bytes) -> bytes:
    """Where `path` lies once /bin, /sbin, /lib and /lib64 are links into /usr."""
    top, slash, _ = path.partition(b"/")
    return b"usr/" + path if slash and top in MERGED else path


def _node(packed: Packed, owner: str, mine: Plan) -> Node:
    member = packed.member
    if member.kind is HARDLINK:
        return mine[merged(member.target)]  # the listing made sure that it is an earlier file
    if member.kind is FILE:
        executable = bool(member.mode & 0o100)
        return Node(FILE, owner, b"", executable, member.size, packed.spool, packed.offset)
    return Node(member.kind, owner, target=member.target)


def _add(plan: Plan, path: bytes, node: Node) -> None:
    before = plan.get(path)
    if before is not None:
        if not _same(before, node):
            raise _conflict(path, before, node)
        return
    parent = path.rpartition(b"/")[0]
    if parent not in plan:
        _add(plan, parent, Node(DIRECTORY, node.owner))
    elif plan[parent].kind is not DIRECTORY:
        raise _conflict(parent, plan[parent], Node(DIRECTORY, node.owner))
    plan[path] = node


def _same(one: Node, other: Node) -> bool:
    if (one.kind, one.target, one.executable, one.size) != (
        other.kind,
        other.target,
        other.executable,
        other.size,
    ):
        return False
    return one.kind is not FILE or b"".join(one.read()) == b"".join(other.read())


def _conflict(path: bytes, one: Node, other: Node) -> CcError:
    def owner(node: Node) -> str:
        return f"of {node.owner}" if node.owner else "of ccstore"

    return CcError(
        "output-invalid",
        f"{printable(path)} is a {one.kind} {owner(one)} and another {other.kind} {owner(other)}",
        hint="two packages that disagree cannot be in one tree: drop one, or `exclude` the path",
    )


def _add_own(plan: Plan, packages: Iterable[Package]) -> None:
    """What no package brings: mount points, texts, and the list of packages."""
    for path in MOUNT_POINTS:
        _add(plan, path, Node(DIRECTORY, ""))
    for path, text in _TEXTS.items():
        if path not in plan:
            _add(plan, path, Node(FILE, "", size=len(text), text=text))
    status = "\n".join(_status(package) for package in packages).encode()
    _add(plan, STATUS, Node(FILE, "", size=len(status), text=status))


def _status(package: Package) -> str:
    first, _, rest = package.control.partition("\n")
    return f"{first}\nStatus: install ok unpacked\n{rest}\n"


def _add_links(plan: Plan, text: str) -> None:
    """The recipe's own links; one may replace a package's link, but nothing else."""
    links: dict[bytes, bytes] = {}
    for line in text.splitlines():
        path, arrow, target = line.partition(" -> ")
        if not arrow:
            raise CcError(
                "recipe-invalid",
                f"{line!r} is not `path -> target`",
                hint="correct it in the recipe's `links`",
            )
        links[merged(os.fsencode(path))] = os.fsencode(target)
    for place, goal in links.items():
        before = plan.get(place)
        if before is not None and before.kind is not SYMLINK:
            raise CcError(
                "recipe-invalid",
                f"the link {printable(place)} would take the place of a {before.kind} of {before.owner}",
                hint="take it out of the recipe's `links`",
            )
        plan.pop(place, None)
        _add(plan, place, Node(SYMLINK, "", target=goal))
    for place, goal in links.items():
        if _resolve(plan, place) is None:
            raise CcError(
                "recipe-invalid",
                f"the link {printable(place)} leads to {printable(goal)}, which no package has",
                hint="correct it in the recipe's `links`, or add the package to `packages`",
            )


def _resolve(plan: Plan, path: bytes) -> bytes | None:
    """What `path` means once every link is followed, as in a chroot; None if it leads nowhere."""
    todo, here, follows = path.split(b"/")[::-1], b"", 0
    while todo:
        part = todo.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            here = here.rpartition(b"/")[0]
            continue
        step = here + b"/" + part if here else part
        node = plan.get(step)
        if node is None:
            return None
        if node.kind is not SYMLINK:
            here = step
            continue
        follows += 1
        if follows > 40:  # as in Linux
            return None
        here = b"" if node.target[:1] == b"/" else here
        todo.extend(node.target.split(b"/")[::-1])
    return here


def _write(plan: Plan, out: Path, cancel: Cancel) -> None:
    top = os.fsencode(out)
    for path in sorted(plan):  # a folder sorts before what is in it
        _stop_if(cancel)
        node, place = plan[path], os.path.join(top, path) if path else top
        if node.kind is DIRECTORY:
            os.mkdir(place, 0o755)  # noqa: PTH102 (a Path cannot be made of bytes)
        elif node.kind is SYMLINK:
            os.symlink(node.target, place)  # noqa: PTH211
        else:
            _write_file(place, node)


def _write_file(place: bytes, node: Node) -> None:
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755 if node.executable else 0o644)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        for chunk in node.read():
            file.write(chunk)
