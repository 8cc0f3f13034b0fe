"""Runs builders as a build would: in the sandbox, with the toolchain as `/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from ccstore.executor.sandbox import Sandbox
from ccstore.model.hashes import Sha256
from ccstore.model.objects import Manifest
from ccstore.ports import BuildRequest, Cancel, Tree
from ccstore.recipe.scripts import scripts

TINYLINUX = Path(__file__).parent.parent / "data/tinylinux"


@dataclass(frozen=True)
class Folder:
    """A file or folder of the test as an input; the sandbox only asks where it lies."""

    path: Path

    @property
    def nar_hash(self) -> Sha256:
        raise NotImplementedError("inputs of these tests are not in a store")

    def entries(self) -> Manifest:
        raise NotImplementedError("inputs of these tests are not in a store")

    def open(self, path: str) -> BinaryIO:
        return BytesIO((self.path / path).read_bytes())


@dataclass(frozen=True)
class Built:
    """What a builder left: its outputs' folder, or why it failed."""

    outputs: Path
    exit_status: int
    report: Mapping[str, Any]
    log: str

    @property
    def out(self) -> Path:
        assert self.exit_status == 0, self.log
        return self.outputs / "out"


@dataclass
class Step:
    """A builder with its inputs and environment; `run` builds once more each time."""

    toolchain: Tree
    folder: Path
    argv: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ("out",)
    overlays: Mapping[str, str] = field(default_factory=dict)
    runs: int = 0

    def run(
        self,
        inputs: Mapping[str, Path],
        env: Mapping[str, str] | None = None,
        cores: int = 1,
        texts: Mapping[str, str] | None = None,
    ) -> Built:
        """`texts` are files of the builder beside its scripts."""
        self.runs += 1
        staging, scratch = self.folder / f"staging-{self.runs}", self.folder / f"scratch-{self.runs}"
        staging.mkdir(parents=True)
        scratch.mkdir()
        request = BuildRequest(
            label="test",
            root=self.toolchain,
            argv=self.argv,
            staging=staging,
            scratch=scratch,
            inputs={name: Folder(path) for name, path in inputs.items()},
            files={**scripts(*self.files), **(texts or {})},
            env={"SOURCE_DATE_EPOCH": "1", **(env or {})},
            outputs=self.outputs,
            overlays=self.overlays,
            cores=cores,
            timeout=120,
        )
        log: list[bytes] = []
        result = Sandbox().build(request, log.append, Cancel())
        return Built(staging, result.exit_status, result.report or {}, b"".join(log).decode(errors="replace"))


MakeStep = Callable[..., Step]


@pytest.fixture
def step(toolchain: Tree, tmp_path: Path) -> MakeStep:
    numbers = count()

    def make(*argv: str, **more: Any) -> Step:
        return Step(toolchain, tmp_path / f"step-{next(numbers)}", argv, **more)

    return make


@pytest.fixture
def unpack(step: MakeStep) -> Step:
    return step("/bin/sh", "/in/.builder/unpack.sh", files=("unpack.sh", "tarfilter.py", "archive.py"))


@pytest.fixture
def patch(step: MakeStep) -> Step:
    return step("/usr/bin/python3", "/in/.builder/patch.py", files=("patch.py",), overlays={"out": "tree"})


@pytest.fixture
def select(step: MakeStep) -> Step:
    return step("/usr/bin/python3", "/in/.builder/kconfig_tree.py", files=("kconfig_tree.py",))


@pytest.fixture
def configure(step: MakeStep) -> Step:
    return step("/usr/bin/python3", "/in/.builder/kconfig.py", files=("kconfig.py",))


@pytest.fixture
def compile(step: MakeStep) -> Step:
    files = ("kernel.sh", "elfpack.py")
    return step("/bin/sh", "/in/.builder/kernel.sh", files=files, outputs=("out", "dev"))
