"""A filter between a decompressor and tar: lets an archive through until the first entry that is not safe.

    xz -dc archive.tar.xz | python3 tarfilter.py [--max-entries N] [--max-bytes N] [--strip N] | tar -x

Every header is judged before any of its bytes is passed on, so tar never sees a refused entry. Exit status: 0
all went through, 1 an entry was refused (`$CCSTORE_REPORT`, if set, says which and why; stderr too), 2 tar
went away. Stdlib only; runs inside the sandbox, with `archive.py` beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from ccstore.builders import archive
else:  # inside the sandbox, where there is no ccstore
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import archive

CHUNK = 1 << 20  # bytes; as large as an ordinary user may make a pipe


class Passing:
    """An archive's bytes from one descriptor to another; what is not yet approved stays behind.

    The buffer holds `[_start, _end)` of what was read; `_at` is the reader's position in it, and everything
    before `_approved` may be written.
    """

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink
        self._data = b""
        self._at = 0
        self._approved = 0

    def take(self, size: int) -> bytes:
        if len(self._data) - self._at < size:
            self._fill(size)
        start = self._at
        self._at = min(start + size, len(self._data))
        return self._data[start : self._at]

    def skip(self, size: int) -> bool:
        """Passes over a body, which its header's approval covers."""
        self._approved = self._at
        while (here := len(self._data) - self._at) < size:
            size -= here
            self._at = self._approved = len(self._data)
            self.flush()
            self._data = os.read(self._source, CHUNK)
            if not self._data:
                return False
        self._at += size
        self._approved = self._at
        return True

    def finish(self) -> None:
        """Approves and writes what was read: the end of the archive."""
        self._approved = self._at
        self.flush()

    def flush(self) -> None:
        """Writes what is approved and forgets it."""
        view = memoryview(self._data)[: self._approved]
        while view:
            view = view[os.write(self._sink, view) :]
        self._data = self._data[self._approved :]
        self._at -= self._approved
        self._approved = 0

    def _fill(self, size: int) -> None:
        self.flush()
        while len(self._data) - self._at < size and (more := os.read(self._source, CHUNK)):
            self._data += more


def pass_archive(source: int, sink: int, check: archive.TreeCheck) -> None:
    """Copies the archive; raises ArchiveRefused, with nothing of the refused entry written."""
    passing = Passing(source, sink)
    try:
        for member in archive.members(passing):
            check.add(member)
    except archive.ArchiveRefused:
        passing.flush()
        raise
    passing.finish()


def write_report(refused: archive.ArchiveRefused) -> None:
    print(f"archive refused: {refused}", file=sys.stderr)
    if path := os.environ.get("CCSTORE_REPORT"):
        report = {
            "code": "archive-refused",
            "message": f"the archive is refused: {refused}",
            "hint": "it was not unpacked; see if the source is the right one",
        }
        Path(path).write_text(json.dumps(report))


def main() -> int:
    parser = argparse.ArgumentParser(description="passes a tar archive on until its first unsafe entry")
    parser.add_argument("--max-entries", type=int, default=archive.MAX_ENTRIES)
    parser.add_argument("--max-bytes", type=int, default=archive.MAX_BYTES)
    parser.add_argument("--strip", type=int, default=0)
    options = parser.parse_args()
    for pipe in (0, 1):
        with contextlib.suppress(OSError):  # not a pipe, or the user's pipes are many: slower, no more
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, CHUNK)
    check = archive.TreeCheck(
        max_entries=options.max_entries, max_bytes=options.max_bytes, strip=options.strip
    )
    try:
        pass_archive(0, 1, check)
    except archive.ArchiveRefused as refused:
        write_report(refused)
        return 1
    except BrokenPipeError:
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
