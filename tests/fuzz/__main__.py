"""`python -m tests.fuzz [NAME…] [--seconds N | --runs N]`: looks for texts that a reader of ccstore cannot take.

Prints a line for each reader: how many texts it was given, how many branches they reached, what was found. A
finding is kept in a file, which `--again FILE` gives to the reader once more. See `engine.py` for what a finding is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.campaign import NAMES, Outcome, fuzz, replay


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"one or more of {', '.join(NAMES)} (all)")
    parser.add_argument("--seconds", type=int, default=60, help="how long each runs (60)")
    parser.add_argument("--runs", type=int, help="so many texts instead, however long that takes")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (1)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where findings and the corpus are kept")
    parser.add_argument(
        "--again", type=Path, metavar="FILE", help="give this text to the one NAME, and show what happens"
    )
    options = parser.parse_args()
    names = options.names or NAMES
    if unknown := sorted(set(names) - set(NAMES)):
        parser.error(f"there is no {unknown[0]!r}; there are {', '.join(NAMES)}")
    if options.again:
        return replay(names[0], options.again)
    limit = f"-runs={options.runs}" if options.runs else f"-max_total_time={options.seconds}"
    keep = options.keep or Path(tempfile.mkdtemp(prefix="ccstore-fuzz-"))
    outcomes = [_told(name, fuzz(name, keep / name, limit, f"-seed={options.seed}")) for name in names]
    return 1 if any(each.finding for each in outcomes) else 0


def _told(name: str, outcome: Outcome) -> Outcome:
    print(f"{name}: {outcome}", flush=True)
    if outcome.finding:
        print(outcome.log, file=sys.stderr)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
