"""A file or folder out of an object: what a kernel takes of a git repository or of an archive (runs in the sandbox).

Input `source`; PART is the path in it, `.` for all. A source that is a file is an archive: unpack.sh, which a
kernel's own source goes through, unpacks it without its one top folder. $out becomes a copy of the part; a
link in it stays a link, and the part itself is found through links as long as they stay in the source.

Failures: `file-missing` with what there is instead, `recipe-invalid` for a link that leads out, and unpack.sh's.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

SOURCE = Path("/in/source")
OUT = Path("/out/out")
UNPACKED = Path("/out/.unpacked")  # beside the output, where unpack.sh leaves it
MANY = 20


def fail(code: str, message: str, **more: object) -> NoReturn:
    Path(os.environ["CCSTORE_REPORT"]).write_text(json.dumps({"code": code, "message": message, **more}))
    print(message, file=sys.stderr)
    sys.exit(1)


def find(top: Path, wanted: str) -> Path:
    path = (top / wanted).resolve()
    if not path.is_relative_to(top.resolve()):
        fail("recipe-invalid", f"{wanted} is a link that leads out of what it is taken from")
    if not path.exists():
        _missing(top, wanted)
    return path


def _missing(top: Path, wanted: str) -> NoReturn:
    folder = top
    for name in Path(wanted).parts:
        if not (folder / name).is_dir():
            break
        folder = folder / name
    there = sorted(str(each.relative_to(top)) for each in folder.iterdir())
    close = difflib.get_close_matches(wanted, there, 1) or [
        each for each in there if wanted.endswith(f"/{each}")
    ]
    hint = f"did you mean {close[0]}?" if close else "paths begin at the top of the repository or archive"
    if UNPACKED.exists():
        hint += " (an archive is unpacked without its one top folder)"
    fail("file-missing", f"there is no {wanted} in it", hint=hint, details=there[:MANY])


def unpack() -> Path:
    done = subprocess.run(["/bin/sh", "/in/.builder/unpack.sh"], check=False)
    if done.returncode:
        sys.exit(1)  # it has said why
    OUT.rename(UNPACKED)
    return UNPACKED


def copy(part: Path) -> None:
    if part.is_dir():
        shutil.copytree(part, OUT, symlinks=True)
    else:
        shutil.copy(part, OUT)


def remove(tree: Path) -> None:
    """Removes what was unpacked; its folders may be read-only."""
    for folder, _, _ in os.walk(tree):
        Path(folder).chmod(0o700)
    shutil.rmtree(tree)


def main() -> None:
    top = unpack() if SOURCE.is_file() else SOURCE
    copy(find(top, os.environ["PART"]))
    if top == UNPACKED:
        remove(top)


if __name__ == "__main__":
    main()
