"""What the parts of ccstore ask of each other.

An executor is a function of a build request: it gets trees, texts and limits, and knows nothing of recipes or
of the store behind a tree (DESIGN, rule 13).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

from ccstore.model.hashes import Sha256
from ccstore.model.objects import Manifest


class Tree(Protocol):
    """The content of a store object, as a build sees it."""

    @property
    def nar_hash(self) -> Sha256: ...

    @property
    def path(self) -> Path:
        """Where the content lies on this host, read-only."""

    def entries(self) -> Manifest: ...

    def open(self, path: str) -> BinaryIO:
        """A file of the tree for reading; "" when the tree is a single file."""


Fault = Callable[[str], None]  # called with the name of each step that is done, so that a test can stop there


def no_fault(step: str) -> None:
    """The `fault` of everyone but tests."""


class Cancel:
    """Set once, by Ctrl-C or by a failed sibling; whoever runs a process registers how to end it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._actions: dict[int, Callable[[], None]] = {}
        self._next = 0
        self.cancelled = False

    def cancel(self) -> None:
        with self._lock:
            self.cancelled = True
            actions = list(self._actions.values())
        for action in actions:
            action()

    def on_cancel(self, action: Callable[[], None]) -> Callable[[], None]:
        """Calls `action` when cancelled (at once if it is already); the result takes it back."""
        with self._lock:
            key, self._next = self._next, self._next + 1
            self._actions[key] = action
            now = self.cancelled
        if now:
            action()

        def forget() -> None:
            with self._lock:
                self._actions.pop(key, None)

        return forget


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock that is `ahead` by so many seconds: `library`, a file of this host (libfaketime.so.1), makes it so."""

    ahead: int
    library: Path


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a build sees that its outputs must not depend on. Every build has these values, but for those of a check.

    `build` is where the build works; what is there can be reached as `/build` too. `in_memory`: that folder and the
    inputs so named lie on a tmpfs, which lists folders in another order than a disk. `probe`: measure more.
    """

    hostname: str = "ccstore"
    domain: str = "(none)"
    user: str = "builder"
    uid: int = 1000
    gid: int = 1000
    build: str = "/build"
    umask: int = 0o022
    random_addresses: bool = False
    in_memory: tuple[str, ...] | None = None
    clock: Clock | None = None
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Launcher:
    """What compilers are started through on a cluster: `recc`, a root tree of this host that has it; `folder`, with a
    socket that leads to the cluster, and a file for what was compiled here after all; `script`, which stands in the
    compilers' place. `toolchain` (`<hash>/<size>`) is the build's root there."""

    recc: Path
    folder: Path
    script: str
    toolchain: str
    instance: str = ""


@dataclass(frozen=True, slots=True)
class CompileCache:
    """`folder` is where ccache keeps its objects; `script` stands in the place of compilers and of the assembler."""

    folder: Path
    script: str


@dataclass(frozen=True, slots=True)
class Assistance:
    """What makes a build faster and must not change what comes out; but for the cluster, folders of this host.

    In the stead of a `compile_cache` compilers may have a `launcher`. `build` is
    `/build`, with what an earlier build left in it; it is not emptied. `changed` has, by input, a folder (or file)
    whose entries are shown instead of the input's, with the same content and the time of now: those that are not what
    the earlier build saw.
    """

    compile_cache: CompileCache | None = None
    launcher: Launcher | None = None
    build: Path | None = None
    changed: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """Everything that an executor needs for one build.

    `outputs` are written below `staging` (an existing empty folder on the store's file system), one entry for
    each; `scratch` is an existing empty folder for `/build` and `/tmp`, which the executor empties unless the
    build failed and `keep_failed` is set. `cores` is how many jobs the build may run. With `jobserver`, descriptors
    of this process to read tokens from and to write them to, it shares these jobs with other builds; executors other
    than the sandbox take no notice of it. `timeout` is in seconds. `network` is for ccstore's own tools (the lock),
    never for a build. Only the sandbox makes other `conditions` than the default ones, and gives `assistance`.
    """

    label: str
    root: Tree
    argv: tuple[str, ...]
    staging: Path
    scratch: Path
    inputs: Mapping[str, Tree] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("out",)
    overlays: Mapping[str, str] = field(default_factory=dict)
    cores: int = 1
    jobserver: tuple[int, int] | None = None
    timeout: float | None = None
    keep_failed: bool = False
    network: bool = False
    conditions: Conditions = field(default_factory=Conditions)
    assistance: Assistance = field(default_factory=Assistance)


@dataclass(frozen=True, slots=True)
class BuildResult:
    """How a build ended.

    `exit_status` is the builder's (128 + signal when it was killed). `report` is what the builder wrote to
    `$CCSTORE_REPORT`: a JSON object that explains a failure (`code`, `message`, and where they help `input`,
    `line`, `hint`, `details`). `overlays` gives, for each output that started as an input, the folder with what
    changed (an overlayfs upper folder). `cpu_seconds` counts the build and all its children; `command` can be
    pasted into a shell to get the same sandbox again. `seen` is what the builder could see of where it ran, as far as
    the executor measures that: hostname, user, path, umask, clock (unix time at its begin), jobs, processors, …
    `in_order`: every process ended by itself or as it was asked to, so that no file is half written which its tools
    take for whole; only known of a build with a kept folder.
    From `began` to `ended` (monotonic seconds) the builder itself ran, where the executor knows that.
    """

    outcome: Literal["built", "failed", "timeout", "cancelled"]
    exit_status: int
    cpu_seconds: float
    report: Mapping[str, Any] | None = None
    overlays: Mapping[str, Path] = field(default_factory=dict)
    command: str = ""
    seen: Mapping[str, str] = field(default_factory=dict)
    began: float | None = None
    ended: float | None = None
    in_order: bool = False


class Executor(Protocol):
    """Runs builds. `log` receives the build's output as it comes, stdout and stderr together."""

    name: str

    def build(self, request: BuildRequest, log: Callable[[bytes], None], cancel: Cancel) -> BuildResult: ...


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file in a cache: its name there, and what it must be where that is known. `most` bytes are never exceeded."""

    name: str
    size: int | None
    sha256: Sha256 | None
    most: int


class Incoming(Protocol):
    """A file on its way into a cache."""

    def write(self, data: bytes) -> None: ...

    def place(self, name: str, fault: Fault = no_fault) -> None:
        """Gives all that was written its name there, at once."""


class BinaryCache(Protocol):
    """Files by name (`nar/x`), in a folder or behind a web server. What they hold: ccstore.cache.entries.

    Methods raise CcError: `unreachable` if the cache does not answer (after several tries), `auth-needed`,
    `cache-invalid` for a file that is not what it should be, `interrupted`; those that write also `push-refused` and
    `disk-full`. Threads may share one. It is closed at the end.
    """

    url: str  # without passwords: for people

    def read(self, name: str, limit: int) -> bytes | None:
        """A small file; None if it is not there. One of more than `limit` bytes is `cache-invalid`."""

    def holds(self, name: str, size: int) -> bool:
        """Whether a file of `size` bytes is there."""

    def download(
        self, file: RemoteFile, partial: Path, report: Callable[[int, int | None], None]
    ) -> AbstractContextManager[BinaryIO]:
        """A large file, to be read from its beginning; `report` hears how many bytes have come, and of how many.

        What had come at an earlier try and lies at `partial` may be used instead. Whatever is there is removed when
        the block ends well, or with a CcError that says that the content is wrong. Raises `not-found`.
        """

    def incoming(self, scratch: Path) -> AbstractContextManager[Incoming]:
        """Begins to add a large file; `scratch` is a folder of this host for what has to wait."""

    def update(
        self, name: str, change: Callable[[bytes | None], bytes | None], limit: int, fault: Fault = no_fault
    ) -> bool:
        """Replaces a small file by what `change` makes of it, at once; whether it did (None: leave it).

        `change` is called again when somebody else replaced the file meanwhile, where that can be noticed.
        """

    def close(self) -> None: ...
