"""What the words of `ccstore run` mean: targets made to exist, sizes and times parsed, QEMU and KVM found."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from ccstore.build import evaluation
from ccstore.build.locate import find_store, require_project
from ccstore.errors import CcError
from ccstore.guest.accelerator import kvm_problem, kvm_refusal
from ccstore.guest.boot import BootImage, parse_size
from ccstore.guest.options import Accelerator, Forward, Share, Volume, parse_duration
from ccstore.guest.options import Options as GuestOptions
from ccstore.guest.programs import Qemu, host_qemu, named_qemu, qemu_of
from ccstore.guest.session import Session

if TYPE_CHECKING:
    from ccstore.store.temproots import TemporaryRoots

QEMU_RECIPE = "qemu"
SMALLEST_MEMORY = 16 << 20


def note(message: str) -> None:
    """On a terminal, which may be raw, a line ends in CR too."""
    click.echo(f"ccstore: {message}" + ("\r" if os.isatty(2) else ""), err=True)


class Targets:
    """Where the objects of targets are, each made if it is not there, and none collected until the end of `with`.

    A root does not do that: whoever edits the recipe and makes it anew moves the root away from a guest that runs.
    """

    def __init__(self, store: str | None, *, incremental: bool = False) -> None:
        self.store = store
        self._incremental = incremental
        self._roots: TemporaryRoots | None = None

    def __enter__(self) -> Targets:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._roots is not None:
            self._roots.close()

    def path(self, target: str) -> Path:
        """The folder or file of a target. The answer is at hand when nothing changed since the last time."""
        found = self.known(target)
        while found is None:
            found = self._kept(self._made(target))
        return found

    def known(self, label: str) -> Path | None:
        """What the evaluation cache answers, if that is still right."""
        project = require_project(".")
        store = find_store(project, self.store, os.environ)
        base = evaluation.lookup(store, project, label)
        return None if base is None else self._kept(Path(store, "objects", base))

    def _kept(self, path: Path) -> Path | None:
        """`path`, safe from collections, or None if one was faster."""
        self._protect(path.parent.parent, path.name)
        return path if os.path.lexists(path) else None

    def _protect(self, store: Path, base: str) -> None:
        from ccstore.model.storepath import StorePath
        from ccstore.store.files import unique
        from ccstore.store.layout import Layout
        from ccstore.store.temproots import TemporaryRoots, gc_lock

        try:
            if self._roots is None:
                layout = Layout(store)
                self._roots = TemporaryRoots(layout, unique(""), gc_lock(layout))
            self._roots.add(StorePath.parse(base))
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EROFS):
                raise
            # a store of somebody else, who alone can hold its objects

    def _made(self, target: str) -> Path:
        from ccstore.build.workspace import Options
        from ccstore.cli.console import progress
        from ccstore.cli.context import open_workspace
        from ccstore.ports import Cancel

        with open_workspace(self.store) as work:
            with progress() as sink:
                options = Options(incremental=self._incremental)
                found = work.realize([target], sink=sink, options=options, cancel=Cancel())
            [realisation] = found.values()
            return work.store.objects.path(realisation.object.path)


def seconds(values: Mapping[str, Any], name: str) -> float | None:
    """A time that was given, or None. Raises `usage`."""
    return _Options(values).seconds(name)


def session(target: str, targets: Targets, values: Mapping[str, Any]) -> Session:
    """The run that the command line asks for. Raises `usage` and whatever making its targets raises."""
    timeout = seconds(values, "timeout")
    image, chosen = image_and_options(target, targets, values)
    program = qemu(values["qemu"], targets)
    if values["dry_run"] and values["accel"] == "auto" and chosen.accelerator == "kvm":
        chosen = replace(chosen, accelerator=_tried(program))
    return Session(image, chosen, program, emulate=values["accel"] == "auto", timeout=timeout, note=note)


def image_and_options(
    target: str, targets: Targets, values: Mapping[str, Any]
) -> tuple[BootImage, GuestOptions]:
    """What is booted, and how."""
    asked = _Options(values)
    publish = tuple(Forward.parse(text) for text in values["publish"])
    shares = _different(tuple(Share.parse(text) for text in values["share"]))
    if values["virtiofs"] and any(share.read_only for share in shares):
        raise CcError("usage", "virtiofsd shares no folder read-only", hint="leave --virtiofs or :ro out")
    volumes = tuple(Volume.parse(text) for text in values["volume"])
    network, memory = asked.network(), asked.memory()
    image = BootImage.read(targets.path(target))
    machine = values["machine"] or image.machine
    if values["virtiofs"] and machine == "microvm":
        raise CcError(
            "vmm-unfit", "a microvm has no virtiofs", hint="use --machine q35, or leave --virtiofs out"
        )
    return image, GuestOptions(
        machine=machine,
        accelerator=_accelerator("kvm" if values["vmm"] != "qemu" else values["accel"]),
        memory=memory or image.memory,
        cpus=values["cpus"],
        append=values["append"],
        network=network,
        publish=publish,
        shares=shares,
        volumes=volumes,
        virtiofs=values["virtiofs"],
    )


def _accelerator(wanted: str) -> Accelerator:
    """What to start with."""
    if wanted == "auto":
        return _unless(kvm_problem())
    return "tcg" if wanted == "tcg" else "kvm"


def _tried(program: Qemu) -> Accelerator:
    """What a run would end up with."""
    return _unless(kvm_refusal(program.prefix, program.env))


def _unless(problem: str) -> Accelerator:
    """KVM, unless there is a problem, which is told in one line."""
    if problem:
        note(f"KVM does not work here ({problem}): software emulation")
    return "tcg" if problem else "kvm"


def qemu(wanted: str | None, targets: Targets) -> Qemu:
    """The QEMU that is asked for, else the host's, else the project's own."""
    if wanted is not None:
        return named_qemu(wanted) if "/" in wanted else qemu_of(targets.path(wanted))
    found = host_qemu()
    if found is not None:
        return found
    try:
        tree = targets.path(QEMU_RECIPE)
    except CcError as error:
        if error.code != "recipe-unknown":
            raise
        message = f"this host has no qemu-system-x86_64, and the project has no recipe {QEMU_RECIPE}"
        hint = "install QEMU (Debian: qemu-system-x86), or import ccstore's recipes/qemu.yml"
        raise CcError("vmm-missing", message, hint=hint) from error
    note("this host has no QEMU: the one of the recipe qemu is used")
    return qemu_of(tree)


def _different(shares: tuple[Share, ...]) -> tuple[Share, ...]:
    tags = [share.tag for share in shares]
    for tag in tags:
        if tags.count(tag) > 1:
            raise CcError("usage", f"two shared folders have the tag {tag}", hint="give one: DIR:TAG")
    return shares


@dataclass(frozen=True, slots=True)
class _Options:
    values: Mapping[str, Any]

    def seconds(self, name: str) -> float | None:
        text = self.values[name]
        try:
            return None if text is None else parse_duration(text)
        except ValueError as error:
            raise _bad(name.replace("_", "-"), error) from error

    def memory(self) -> int | None:
        text = self.values["memory"]
        try:
            memory = None if text is None else parse_size(text)
        except ValueError as error:
            raise _bad("memory", error) from error
        if memory is not None and memory < SMALLEST_MEMORY:
            raise CcError("usage", f"--memory {text}: no guest runs in so little", hint="give at least 64M")
        return memory

    def network(self) -> bool:
        if self.values["no_network"] and self.values["publish"]:
            raise CcError("usage", "--publish needs a network", hint="leave --no-network out")
        return not self.values["no_network"]


def _bad(name: str, error: ValueError) -> CcError:
    return CcError("usage", f"--{name}: {error}", hint="`ccstore run --help` shows examples")
