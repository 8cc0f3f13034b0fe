"""A small Remote Execution cluster on this machine: `python -m tests.cluster DIR --workers 2`, until Ctrl-C.

DIR keeps what it is made of, so that the next start is quick. PostgreSQL must be installed (Debian: postgresql);
everything else comes from PyPI and from Debian's packages, by `ccstore lock` and `realize`.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from tests.cluster.grid import UnavailableError, running


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--workers", type=int, default=2, help="how many builds run at once (default: 2)")
    parser.add_argument("--port", type=int, default=50051, help="of 127.0.0.1 (default: 50051)")
    parser.add_argument("--lock", type=Path, help="take this lock of the workers' root tree, and make none")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with running(chosen.folder, chosen.workers, chosen.port, chosen.lock) as grid:
            print(f"ccstore realize TARGET --executor remote --remote {grid.url}", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass
    except UnavailableError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
