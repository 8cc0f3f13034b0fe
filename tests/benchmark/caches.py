"""Pushing and pulling beside `nix copy`: the same object, to and from caches in folders, at one zstd level."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmark.measure import Command, compare
from tests.conftest import REPOSITORY

LEVEL = 3
RUNS = 5


@dataclass(frozen=True)
class Sides:
    """Both programs, what they share, and a folder for what they make."""

    folder: Path
    ccstore: Path
    store: Path
    nix: Mapping[str, str]
    forget: Callable[..., None]

    def rows(self, work: str, objects: Mapping[str, Path]) -> Iterator[str]:
        """One row of the README's table for each of `objects`; `work` is push or pull."""
        key = self.folder / "key"
        subprocess.run([self.ccstore, "cache", "keygen", "benchmark-1", key], check=True, capture_output=True)
        for label, path in objects.items():
            added = self._added(path)
            pushes = self._push(path, added)
            if work == "push":
                yield compare(f"push of {label}", 1.0, *pushes, RUNS).row("`nix copy --to file://`")
            else:
                for push in pushes:
                    push.run()
                pulls = self._pull(path, added)
                yield compare(f"pull of {label}", 1.0, *pulls, RUNS).row("`nix copy --from file://`")
            self._fresh("ours", "theirs", "into", "nix-into", "nix-root")()

    def _added(self, path: Path) -> str:
        """The object in a store of Nix's; its store path."""
        copy = self.folder / path.name.partition("-")[2]
        subprocess.run(["cp", "-al", path, copy], check=True)
        argv = ["nix-store", "--store", str(self.folder / "nix-root"), "--add", str(copy)]
        found = subprocess.run(argv, env=self.nix, capture_output=True, text=True, check=True)
        self.forget(copy)
        return found.stdout.strip()

    def _fresh(self, *names: str) -> Callable[[], None]:
        return lambda: self.forget(*(self.folder / name for name in names))

    def _url(self, name: str) -> str:
        return (self.folder / name).as_uri()

    def _push(self, path: Path, added: str) -> tuple[Command, Command]:
        ours = [str(self.ccstore), "cache", "push", path.name, "--to", self._url("ours")]
        ours += ["--key", str(self.folder / "key"), "--level", str(LEVEL), "--store", str(self.store)]
        url = f"{self._url('theirs')}?compression=zstd&compression-level={LEVEL}"
        theirs = ["nix", "copy", "--store", str(self.folder / "nix-root"), "--to", url, added]
        return (
            Command("ccstore", ours, cwd=REPOSITORY, prepare=self._fresh("ours")),
            Command("nix", theirs, env=self.nix, prepare=self._fresh("theirs")),
        )

    def _pull(self, path: Path, added: str) -> tuple[Command, Command]:
        ours = [str(self.ccstore), "cache", "pull", path.name, "--from", self._url("ours")]
        ours += ["--store", str(self.folder / "into")]
        theirs = [
            "nix",
            "copy",
            "--store",
            str(self.folder / "nix-into"),
            "--from",
            self._url("theirs"),
            added,
        ]
        return (
            Command("ccstore", ours, cwd=REPOSITORY, prepare=self._fresh("into")),
            Command("nix", theirs, env=self.nix, prepare=self._fresh("nix-into")),
        )
