"""Runs a build in a process of other surroundings: environment, umask, user, load.

    parent   ccstore: hands the task over on the child's standard input, which it then keeps open
    child    `main`: becomes the other user after it has loaded everything, builds, prints the build's log, and
             writes one line of JSON to the descriptor that it was given: the result, or the error

The child builds until it is done or until its standard input ends: the parent cancelled, or is gone.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from ccstore.build.vary import Surroundings
from ccstore.debian.unpack import debian_tree
from ccstore.errors import CcError
from ccstore.executor import enter
from ccstore.executor.process import interpreter
from ccstore.executor.sandbox import Sandbox
from ccstore.ports import BuildRequest, BuildResult, Cancel, Conditions, Tree

RANDOM = "CCSTORE_CHECK_"  # variables with random names and values begin so
KEPT = (
    "PATH",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "VIRTUAL_ENV",
)  # what Python or the sandbox may need to start
NICENESS = 10  # of a process that keeps the CPUs busy: enough to disturb, too little to slow down


@dataclass(frozen=True, slots=True)
class Task:
    """What the child is to do: a build in the sandbox, or what `builtin:debian-tree` does."""

    surroundings: Surroundings
    request: BuildRequest | None = None
    builtin: tuple[Mapping[str, Tree], Mapping[str, str], Path] | None = None


class Elsewhere:
    """Executor `sandbox` in other surroundings, for a build under `conditions`. `seen` is what the last build saw."""

    name = "sandbox"

    def __init__(self, conditions: Conditions, surroundings: Surroundings) -> None:
        self._conditions = conditions
        self._surroundings = surroundings
        self.seen: Mapping[str, str] = {}

    def build(self, request: BuildRequest, log: Callable[[bytes], None], cancel: Cancel) -> BuildResult:
        """As an executor does, and raises as one does."""
        self._give(request.staging, request.scratch)
        request = replace(request, conditions=self._conditions)
        value = _run(Task(self._surroundings, request=request), log, cancel)
        value["overlays"] = {output: Path(path) for output, path in value["overlays"].items()}
        result = BuildResult(**value)
        self.seen = result.seen
        return result

    def debian_tree(
        self, inputs: Mapping[str, Tree], files: Mapping[str, str], out: Path, cancel: Cancel
    ) -> None:
        self._give(out.parent)
        task = Task(self._surroundings, builtin=(inputs, files, out))
        self.seen = _run(task, lambda _: None, cancel)["seen"]

    def _give(self, *folders: Path) -> None:
        """The folders, to the user who builds, and the way to them."""
        uid = self._surroundings.uid
        if uid is not None:
            for folder in folders:
                folder.parent.chmod(0o711)
                os.chown(folder, uid, uid)


def _run(task: Task, log: Callable[[bytes], None], cancel: Cancel) -> dict[str, Any]:
    """The child's result. Raises its error, and CcError `internal` if it gave none."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as results:
        try:
            child = _start(task, writer)
        finally:
            os.close(writer)
        try:
            _follow(child, task, log, cancel)
        finally:
            for stream in (child.stdin, child.stdout):
                _close(stream)
            child.wait()
        line = results.read()
    if not line:
        message = f"the process that was to build ended with status {child.returncode}"
        raise CcError("internal", message, hint="its own message stands above")
    value: dict[str, Any] = json.loads(line)
    if "error" in value:
        error = value["error"]
        raise CcError(**{**error, "details": tuple(error["details"])})
    return value


def _start(task: Task, writer: int) -> subprocess.Popen[bytes]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    path = {"PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    around = task.surroundings.environment or dict(os.environ)
    return subprocess.Popen(
        [interpreter(), "-P", "-c", f"from {__name__} import main; main()", str(writer)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**around, **kept, **path},
        cwd="/",
        pass_fds=(writer,),
        start_new_session=True,  # Ctrl-C is for the parent, which ends the build in order
    )


def _follow(child: subprocess.Popen[bytes], task: Task, log: Callable[[bytes], None], cancel: Cancel) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    with suppress(BrokenPipeError):  # it ended before: there will be no result
        pickle.dump(task, child.stdin)
        child.stdin.flush()
    forget = cancel.on_cancel(lambda: _close(child.stdin))
    try:
        while data := os.read(child.stdout.fileno(), 1 << 16):
            log(data)
    finally:
        forget()


def _close(stream: BinaryIO | Any) -> None:
    with suppress(BrokenPipeError):
        stream.close()


def main() -> None:
    """The child."""
    task: Task = pickle.load(sys.stdin.buffer)  # noqa: S301 (it comes from the process that started this one)
    try:
        value = _work(task)
    except CcError as error:
        value = {"error": _error(error)}
    with suppress(BrokenPipeError), os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as results:
        results.write(json.dumps(value))


def _error(error: CcError) -> dict[str, Any]:
    names = ("code", "message", "where", "hint", "details")
    return {name: getattr(error, name) for name in names}


def _work(task: Task) -> dict[str, Any]:
    around = task.surroundings
    if around.processors is not None:
        os.sched_setaffinity(0, around.processors)
    if around.uid is not None:
        os.setgroups([])
        os.setresgid(around.uid, around.uid, around.uid)
        os.setresuid(around.uid, around.uid, around.uid)
    os.umask(around.umask)
    with _load(around.load) as load:
        cancel = Cancel()
        threading.Thread(target=lambda: _cancel_at_end(sys.stdin.fileno(), cancel), daemon=True).start()
        value = _build(task, cancel)
    value["seen"] = {**value["seen"], **_looked_around(around), **load}
    return value


def _build(task: Task, cancel: Cancel) -> dict[str, Any]:
    if task.builtin is not None:
        debian_tree(*task.builtin, cancel)
        return {"seen": {"processors": str(len(os.sched_getaffinity(0))), "kernel": os.uname().release}}
    assert task.request is not None
    result = Sandbox().build(task.request, _print, cancel)
    overlays = {output: str(path) for output, path in result.overlays.items()}
    return {**asdict(replace(result, overlays={}, command="")), "overlays": overlays}


def _print(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _cancel_at_end(descriptor: int, cancel: Cancel) -> None:
    while os.read(descriptor, 1):
        pass
    cancel.cancel()


def _looked_around(around: Surroundings) -> dict[str, str]:
    umask = os.umask(0)
    os.umask(umask)
    told = {name: os.environ.get(name) for name in around.environment if not name.startswith(RANDOM)}
    random = sum(name.startswith(RANDOM) for name in os.environ)
    shown = " ".join(f"{name}={value}" for name, value in told.items())
    seen = {"environment": f"{shown}, {random} random variables"} if random else {}
    return {"caller": str(os.geteuid()), "caller-umask": f"{umask:04o}", **seen}


@contextmanager
def _load(processes: int) -> Iterator[dict[str, str]]:
    """Keeps CPUs busy meanwhile; how much that was is in the result afterwards."""
    told: dict[str, str] = {}
    busy = [_keep_busy() for _ in range(processes)]
    try:
        yield told
    finally:
        for each in busy:
            os.kill(each, signal.SIGKILL)
        used = sum(usage.ru_utime for usage in (os.wait4(each, 0)[2] for each in busy))
        if busy:
            told["load"] = f"{processes} busy process{'es' * (processes > 1)}, {used:.1f} s of CPU time"


def _keep_busy() -> int:
    child = os.fork()
    if child:
        return child
    parent = os.getppid()
    enter.die_with_parent()
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while os.getppid() == parent:
        sum(range(100_000))
    os._exit(0)
