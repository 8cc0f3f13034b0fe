"""The evaluation cache: the answer of the last `realize`, and every file that it rested on.

    <store>/evaluations/<CRC-32 of the project's folder, hex>-<TARGET>

    ccstore-evaluation 3 <newest change time and count of ccstore's own files that make keys>
    <project folder>
    <file of the person's configuration, which says whom they trust>
    <object base name> <root name> <step name>
    <the caches that are configured>
    <when the evaluation began, in nanoseconds>
    <kind> <inode> <size> <mtime ns> <ctime ns> <XXH3-128 or -> <path>     one line for each file or folder
    - 0 0 0 0 - <path>                                      what was not there
    end                                                     without it lines may be lost: no answer

Reading one takes some lstat calls and nothing that is slow to import: no SQLite, YAML or pydantic. A file counts
as unchanged when inode, size, mtime and ctime are the same *and* it was last changed well before the evaluation
began; else its content is hashed, so that a change within one tick of the clock is noticed too (Git calls such a
file "racily clean"). An answer is not written down when a file changed while it was worked out. For a folder the
same numbers say whether a name came or went.
"""

from __future__ import annotations

import os
import stat
import time
from binascii import crc32

from ccstore.recipe.userfile import user_file

VERSION = "ccstore-evaluation 3"
FOLDER = "evaluations"
END = "end"
UNFINISHED = ".new-"  # and the number of the process that writes it
KERNEL_TICK = 20_000_000  # nanoseconds; Linux stamps files with the time of its last tick
COARSEST_TICK = 2_000_000_000  # nanoseconds; FAT counts in two seconds, NFS and ext3 in one


class Known:
    """An answer: the object's base name, the root that keeps it, the step that gives it; the caches that are
    configured (`ccstore.build.caches.remembered` reads them)."""

    __slots__ = ("base", "caches", "root", "step")

    def __init__(self, base: str, root: str, step: str, caches: str) -> None:
        self.base = base
        self.root = root
        self.step = step
        self.caches = caches


def cache_path(store: str, project: str, target: str) -> str:
    return f"{store}/{FOLDER}/{crc32(os.fsencode(project)):08x}-{target}"


def own_files() -> tuple[int, int]:
    """The newest change time, in nanoseconds, and the count of ccstore's own files that make keys."""
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    newest = count = 0
    for folder in ("recipe", "builders", "model"):
        with os.scandir(f"{top}/{folder}") as entries:
            for entry in entries:
                if not entry.name.startswith("__pycache__"):
                    newest = max(newest, entry.stat().st_ctime_ns)
                    count += 1
    return newest, count


def _head(newest: int, count: int) -> str:
    return f"{VERSION} {newest:x}.{count}"


def lookup(store: str, project: str, target: str) -> str | None:
    """The object's base name if nothing that the last evaluation read has changed and it is still rooted."""
    answer = known(store, project, target)
    return answer.base if answer else None


def known(store: str, project: str, target: str) -> Known | None:
    """Like `lookup`, with all that is known."""
    try:
        with open(cache_path(store, project, target), encoding="utf-8", errors="surrogateescape") as file:
            head, folder, person, answer, caches, clock, *lines, end, _ = file.read().split("\n")
        base, root, step = answer.split(" ")
        if head != _head(*own_files()) or folder != project or end != END:
            return None
        if person != _person():  # somebody else may trust others
            return None
        os.lstat(f"{store}/objects/{base}")
        with open(f"{store}/roots/{root}", encoding="utf-8") as file:
            if f'"path":"{base}"' not in file.read():  # another checkout of the project has the root now
                return None
        began = int(clock)
        unchanged = all(_unchanged(line, began) for line in lines if line)
        return Known(base, root, step, caches) if unchanged else None
    except (OSError, ValueError):
        return None  # whatever is wrong with a cache, the answer is computed instead


def _person() -> str:
    return user_file(os.environ) or ""


def _unchanged(line: str, began: int) -> bool:
    kind, inode, size, mtime, ctime, digest, path = line.split(" ", 6)
    if kind == "-":
        return not os.path.lexists(path)
    now = os.lstat(path)
    if kind != _kind(now) or f"{now.st_ino} {now.st_size} {now.st_mtime_ns}" != f"{inode} {size} {mtime}":
        return False
    if now.st_ctime_ns != int(ctime):
        return False
    return now.st_ctime_ns < began - COARSEST_TICK or kind != "f" or _hash(path) == digest


def record(
    store: str,
    project: str,
    target: str,
    answer: Known,
    began: int,
    read: list[str],
    absent: list[str],
) -> None:
    """Writes down what `target` gave, unless a file of `read` changed since `began` or one of `absent` is there now.

    Nor is anything written when a file of ccstore's own that makes keys has changed since then.
    """
    newest, count = own_files()
    if newest >= began:
        return
    if any("\n" in path or os.path.lexists(path) for path in absent):
        return
    lines = [
        _head(newest, count),
        project,
        _person(),
        f"{answer.base} {answer.root} {answer.step}",
        answer.caches,
        str(began),
    ]
    lines += [f"- 0 0 0 0 - {path}" for path in absent]
    for path in read:
        now = os.lstat(path)
        if now.st_ctime_ns >= began or "\n" in path:
            return
        digest = _hash(path) if stat.S_ISREG(now.st_mode) else "-"
        lines.append(
            f"{_kind(now)} {now.st_ino} {now.st_size} {now.st_mtime_ns} {now.st_ctime_ns} {digest} {path}"
        )
    path = cache_path(store, project, target)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{os.path.dirname(path)}/{UNFINISHED}{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write("\n".join([*lines, END, ""]))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def clock() -> int:
    """The earliest time, in nanoseconds, that a file which changes from now on can be stamped with."""
    return time.time_ns() - KERNEL_TICK


def _kind(status: os.stat_result) -> str:
    return {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}.get(stat.S_IFMT(status.st_mode), "?")


def _hash(path: str) -> str:
    import xxhash

    with open(path, "rb") as file:
        return str(xxhash.xxh3_128_hexdigest(file.read()))
