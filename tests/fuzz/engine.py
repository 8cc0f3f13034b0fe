"""One fuzzer, in a process of its own: `python -m tests.fuzz.engine NAME FOLDER [libFuzzer's options]`.

The process can write nowhere but below FOLDER (every other file system is read-only to it), and what the reader
under test has to itself is an empty folder in there, a tmpfs: what appears beside it is a finding. So is any
exception that the target does not expect (`MemoryError` at 2 GiB too), a text that takes more than 10 seconds,
and a process that grows beyond 1 GiB. `FOLDER/corpus` is where texts that reached something new are kept; a
`FOLDER/text` that is there is the only text.
"""

from __future__ import annotations

import importlib
import os
import resource
import sys
from pathlib import Path

import atheris

from ccstore.executor.scratch import empty_folder
from tests.namespaces import allow_writing_only_below, mount_tmpfs, unshare

ADDRESS_SPACE = 2 << 30
INSTRUMENTED = ("ccstore", "debian.arfile", "tarfile")


class Jail:
    """Runs a target on one text after another, each time with an empty folder; `place` is a tmpfs."""

    def __init__(self, place: Path) -> None:
        self.place, self.work = place, place / "inside"
        self.work.mkdir()

    def clean(self) -> None:
        """Leaves an empty folder; AssertionError if the target wrote beside it."""
        assert os.listdir(self.place) == ["inside"], (
            f"written outside of its folder: {os.listdir(self.place)}"
        )
        empty_folder(self.work)


def enter(folder: Path) -> Jail:
    unshare()
    allow_writing_only_below(folder)
    place = folder / "place"
    mount_tmpfs(place, "size=64m")
    return Jail(place)


def main() -> None:
    name, folder, options = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    jail = enter(folder)
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        target = importlib.import_module(f"tests.fuzz.targets.{name}").TARGET
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for seed, data in target.seeds.items():
        (corpus / f"seed-{seed}").write_bytes(data)
    (folder / "words").write_text("".join(f'"{_escaped(each)}"\n' for each in target.tokens))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))

    def one(data: bytes) -> None:
        try:
            target.run(data, jail.work)
        finally:
            jail.clean()

    def mutated(data: bytes, size: int, seed: int) -> bytes:
        found = atheris.Mutate(data, size)
        return bytes(target.mend(found) if seed % 8 else found)

    fixed = [
        f"-dict={folder}/words",
        f"-max_len={target.max_size}",
        f"-artifact_prefix={folder}/",
        "-timeout=10",
    ]
    fixed += ["-rss_limit_mb=1024", "-print_final_stats=1", "-len_control=0"]
    texts = folder / "text" if (folder / "text").exists() else corpus
    atheris.Setup([sys.argv[0], *fixed, *options, str(texts)], one, custom_mutator=mutated)
    atheris.Fuzz()


def _escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


if __name__ == "__main__":
    main()
