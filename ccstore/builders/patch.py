"""kernel.patched: applies patches to the tree at $out, in order (runs inside the sandbox; standard library only).

Inputs: `tree`, and `patches-00`, `patches-01`, …: each a patch, or a folder whose *.patch and *.diff files apply
in the order of its `series` file, else by name. OPTIONS is JSON, by input: `series`, another name of that file, and
`skip-applied`. $out starts out as a writable view of the tree; its files are read-only, so a change replaces a
file. Offsets are allowed, fuzz is not. A failure goes to $CCSTORE_REPORT with the patch, the file, the line and the
reject. A patch that turns out to be in the tree already is told from one that does not fit by reversing it on
copies of its files, taken before anything was touched: `patch-applied`, or left out if `skip-applied` says so.

A series is quilt's (quilt(1)): on each line the name of a patch, relative to the folder, and options, `-pN`
(components to strip from names, 1 by default; `-pab` is 1) and `-R` (reversed); `#` begins a comment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

PATCH = ("patch", "-u", "--fuzz=0", "--no-backup-if-mismatch", "--read-only=ignore")
OUT = Path("/out/out")
_COMMENT = re.compile(r"(^|\s)#.*")
_STRIP = re.compile(r"-p(ab|\d)")
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_NAME = re.compile(r"(?:---|\+\+\+|rename from|rename to|copy from|copy to|Index:) (.+)")
_FAILED = re.compile(r"Hunk #(\d+) (?:FAILED|NOT MERGED) at (\d+)")


@dataclass(frozen=True)
class Patch:
    """A patch file; `source` is the input that brought it."""

    name: str
    path: Path
    source: str
    strip: int = 1
    reverse: bool = False
    skip_applied: bool = False

    def argv(self, *, undo: bool) -> tuple[str, ...]:
        """patch(1), doing or undoing this patch; it asks nothing, and thinks for itself no more than it must."""
        direction = ("--reverse",) if self.reverse != undo else ()
        mood = ("--force",) if undo else ("--forward", "--batch")
        return (*PATCH, f"-p{self.strip}", *direction, *mood, "-i", str(self.path))


@dataclass
class Names:
    """The files that a patch names, below the tree, and the names that it must not have."""

    files: set[str] = field(default_factory=set)
    bad: list[tuple[int, str]] = field(default_factory=list)


def fail(code: str, message: str, source: str, **more: object) -> NoReturn:
    report = {"code": code, "message": message, "input": source, **more}
    Path(os.environ["CCSTORE_REPORT"]).write_text(json.dumps(report))
    print(message, file=sys.stderr)
    sys.exit(1)


def patches_of(inputs: Path, options: Mapping[str, Any]) -> Iterator[Patch]:
    for source in sorted(inputs.glob("patches-*")):
        given = options.get(source.name, {})
        found = (
            _folder(source, given.get("series", "")) if source.is_dir() else [(source.name, source, 1, False)]
        )
        for name, path, strip, reverse in found:
            yield Patch(name, path, source.name, strip, reverse, bool(given.get("skip-applied")))


def _folder(folder: Path, series: str) -> Iterator[tuple[str, Path, int, bool]]:
    file = folder / (series or "series")
    if not series and not file.exists():
        for name in by_name(each.name for each in folder.iterdir()):
            yield name, folder / name, 1, False
        return
    if not file.is_file():
        fail(
            "file-missing",
            f"there is no series {series}",
            folder.name,
            hint="`series` is a file beside the patches",
        )
    try:
        for number, name, strip, reverse in listed(file.read_text(errors="surrogateescape")):
            if not (folder / name).is_file():
                fail("file-missing", f"{file.name}, line {number}: there is no patch {name}", folder.name)
            yield name, folder / name, strip, reverse
    except ValueError as error:
        fail("recipe-invalid", f"{file.name}, {error}", folder.name)


def by_name(names: Iterable[str]) -> list[str]:
    """The patches among the files of a folder without a series."""
    return sorted(name for name in names if name.endswith((".patch", ".diff")))


def listed(series: str) -> Iterator[tuple[int, str, int, bool]]:
    """Line number, name, components to strip and whether it is reversed, for each patch. Raises ValueError."""
    for number, text in enumerate(series.splitlines(), 1):
        words = _COMMENT.sub("", text).split()
        if not words:
            continue
        name, *options = words
        strips = [_STRIP.fullmatch(word) for word in options if word != "-R"]
        if ".." in PurePosixPath(name).parts or name.startswith("/") or None in strips or len(strips) > 1:
            raise ValueError(
                f"line {number}: {text.strip()!r} is not the name of a patch, and options -pN and -R"
            )
        strip = next((match[1] for match in strips if match), "1")
        yield number, name, 1 if strip == "ab" else int(strip), "-R" in options


def names_in(lines: list[str], strip: int) -> Names:
    """What the headers of a patch name; the bodies of hunks, which may look like headers, are skipped."""
    names = Names()
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        hunk = _HUNK.match(line)
        if hunk:
            number = _skip_hunk(lines, number, int(hunk[2] or 1), int(hunk[3] or 1))
        else:
            _take_names(line, number, strip, names)
    return names


def _skip_hunk(lines: list[str], at: int, old: int, new: int) -> int:
    while at < len(lines) and (old > 0 or new > 0):
        lead = lines[at][:1]
        if lead == "\\":
            at += 1
            continue
        if lead not in (" ", "-", "+", ""):
            break
        old -= lead != "+"
        new -= lead != "-"
        at += 1
    return at


def _take_names(line: str, number: int, strip: int, names: Names) -> None:
    if line.startswith("diff --git "):
        candidates = line[len("diff --git ") :].split()
    else:
        match = _NAME.match(line)
        candidates = [match[1].split("\t")[0].strip()] if match else []
    stripped = not line.startswith(("rename ", "copy "))
    for name in candidates:
        name = name.strip('"')
        if name == "/dev/null":
            continue
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or ".git" in parts:
            names.bad.append((number, name))
        elif stripped and len(parts) > strip:
            names.files.add("/".join(parts[strip:]))
        elif not stripped:
            names.files.add(name)


def apply(patch: Patch, tree: Path, scratch: Path) -> None:
    lines = patch.path.read_text(errors="surrogateescape").split("\n")
    names = names_in(lines, patch.strip)
    if names.bad:
        line, name = names.bad[0]
        fail(
            "patch-failed",
            f"{patch.name}, line {line}: the patch names {name}, which is outside the tree",
            patch.source,
            hint="a patch may only name files below the top of the kernel tree",
        )
    before = scratch / "before"
    _copy_files(names.files, tree, before)
    print(f"applying {patch.name}", flush=True)
    rejects = scratch / "rejects"
    done = _patch((*patch.argv(undo=False), "-r", str(rejects)), tree)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        if not _is_applied(patch, before, scratch / "undone"):
            _explain(patch, done.stdout, rejects)
        _skip(patch, names.files, before, tree)
        rejects.unlink(missing_ok=True)
    _refuse_links(patch, names.files, tree)
    shutil.rmtree(before)


def _is_applied(patch: Patch, before: Path, undone: Path) -> bool:
    """Whether undoing the patch on the files as they were before it succeeds."""
    shutil.copytree(before, undone)
    done = _patch(patch.argv(undo=True), undone)
    shutil.rmtree(undone)
    return done.returncode == 0


def _skip(patch: Patch, names: set[str], before: Path, tree: Path) -> None:
    if not patch.skip_applied:
        fail(
            "patch-applied",
            f"{patch.name} is already in the tree",
            patch.source,
            hint=f"drop {patch.name}: the source has this change; or leave out what it has by `skip-applied: true`",
        )
    for name in sorted(names):  # some of its hunks may have found a second place
        source, target = before / name, tree / name
        if source.exists():
            target.unlink(missing_ok=True)
            shutil.copy(source, target)
        elif not target.is_symlink():
            target.unlink(missing_ok=True)
    print(f"skipped {patch.name}: it is already in the tree", flush=True)


def _copy_files(names: set[str], tree: Path, target: Path) -> None:
    target.mkdir()
    for name in sorted(names):
        source, copy = tree / name, target / name
        if source.is_file() and not source.is_symlink():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
            copy.chmod(copy.stat().st_mode | 0o200)


def _patch(argv: tuple[str, ...], tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        cwd=tree,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        errors="replace",
        check=False,
    )


def _explain(patch: Patch, output: str, rejects: Path) -> NoReturn:
    details = rejects.read_text(errors="replace").splitlines() if rejects.exists() else output.splitlines()
    fail(
        "patch-failed",
        f"{patch.name} does not apply: {_first_failure(output)}",
        patch.source,
        hint="rebase the patch on this source; offsets are allowed, fuzz is not",
        details=details,
    )


def _first_failure(output: str) -> str:
    name = ""
    for line in output.splitlines():
        if line.startswith(("patching file ", "checking file ")):
            name = line.split(" ", 2)[2].strip("'")
        failed = _FAILED.match(line)
        if failed:
            return f"hunk {failed[1]} failed at {name}, line {failed[2]}"
        if line.startswith(("can't find file to patch", "The next patch would")):
            return line.rstrip(".!")
    return output.strip().splitlines()[-1] if output.strip() else "patch said nothing"


def _refuse_links(patch: Patch, names: set[str], tree: Path) -> None:
    top = tree.resolve()
    for name in sorted(names):
        link = tree / name
        if link.is_symlink() and not link.resolve().is_relative_to(top):
            fail(
                "patch-failed", f"{patch.name} makes {name} a link that leads outside the tree", patch.source
            )


def main() -> None:
    scratch = Path("/build")
    options = json.loads(os.environ.get("OPTIONS", "{}"))
    for patch in patches_of(Path("/in"), options):
        apply(patch, OUT, scratch)


if __name__ == "__main__":
    main()
