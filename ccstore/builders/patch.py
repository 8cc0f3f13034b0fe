"""kernel.patched: applies patches to the tree at $out, in order (runs inside the sandbox; standard library only).

Inputs: `tree`, and `patches-00`, `patches-01`, …: each a patch, or a folder whose *.patch and *.diff files apply
in the order of its `series` file, else by name. $out starts out as a writable view of the tree; its files are
read-only, so a change replaces a file. Offsets are allowed, fuzz is not. A failure goes to $CCSTORE_REPORT with the
patch, the file, the line and the reject. A patch that turns out to be in the tree already is told from one that
does not fit by reversing it on copies of its files, taken before anything was touched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NoReturn

PATCH = (
    "patch",
    "-u",
    "-p1",
    "--fuzz=0",
    "--forward",
    "--batch",
    "--no-backup-if-mismatch",
    "--read-only=ignore",
)
REVERSE = ("patch", "-u", "-p1", "--fuzz=0", "--reverse", "--force", "--dry-run", "--read-only=ignore")
OUT = Path("/out/out")
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_NAME = re.compile(r"(?:---|\+\+\+|rename from|rename to|copy from|copy to|Index:) (.+)")
_FAILED = re.compile(r"Hunk #(\d+) (?:FAILED|NOT MERGED) at (\d+)")


@dataclass(frozen=True)
class Patch:
    """A patch file; `source` is the input that brought it, `line` where a series names it."""

    name: str
    path: Path
    source: str


@dataclass
class Names:
    """The files that a patch names, without their first component, and the names that it must not have."""

    files: set[str] = field(default_factory=set)
    bad: list[tuple[int, str]] = field(default_factory=list)


def fail(code: str, message: str, source: str, **more: object) -> NoReturn:
    report = {"code": code, "message": message, "input": source, **more}
    Path(os.environ["CCSTORE_REPORT"]).write_text(json.dumps(report))
    print(message, file=sys.stderr)
    sys.exit(1)


def patches_of(inputs: Path) -> Iterator[Patch]:
    for source in sorted(inputs.glob("patches-*")):
        if source.is_dir():
            yield from _folder(source)
        else:
            yield Patch(source.name, source, source.name)


def _folder(folder: Path) -> Iterator[Patch]:
    series = folder / "series"
    if not series.exists():
        names = sorted(each.name for each in folder.iterdir() if each.suffix in (".patch", ".diff"))
        yield from (Patch(name, folder / name, folder.name) for name in names)
        return
    for number, text in enumerate(series.read_text(errors="surrogateescape").splitlines(), 1):
        words = text.partition("#")[0].split()
        if not words:
            continue
        name = words[0]
        if words[1:] not in ([], ["-p1"]) or ".." in PurePosixPath(name).parts or name.startswith("/"):
            fail(
                "recipe-invalid",
                f"series, line {number}: {text.strip()!r} is not the name of a patch",
                folder.name,
            )
        if not (folder / name).is_file():
            fail("file-missing", f"series, line {number}: there is no patch {name}", folder.name)
        yield Patch(name, folder / name, folder.name)


def names_in(lines: list[str]) -> Names:
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
            _take_names(line, number, names)
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


def _take_names(line: str, number: int, names: Names) -> None:
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
        elif stripped and len(parts) > 1:
            names.files.add("/".join(parts[1:]))
        elif not stripped:
            names.files.add(name)


def apply(patch: Patch, tree: Path, scratch: Path) -> None:
    lines = patch.path.read_text(errors="surrogateescape").split("\n")
    names = names_in(lines)
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
    done = _patch((*PATCH, "-r", str(rejects), "-i", str(patch.path)), tree)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        _explain(patch, done.stdout, rejects, before)
    _refuse_links(patch, names.files, tree)
    shutil.rmtree(before)


def _copy_files(names: set[str], tree: Path, target: Path) -> None:
    target.mkdir()
    for name in sorted(names):
        source, copy = tree / name, target / name
        if source.is_file() and not source.is_symlink():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


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


def _explain(patch: Patch, output: str, rejects: Path, before: Path) -> NoReturn:
    reverse = _patch((*REVERSE, "-i", str(patch.path)), before)
    if reverse.returncode == 0:
        fail(
            "patch-failed",
            f"{patch.name} is already in the tree",
            patch.source,
            hint=f"drop {patch.name}: the source has this change",
        )
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
    for patch in patches_of(Path("/in")):
        apply(patch, OUT, scratch)


if __name__ == "__main__":
    main()
