"""What lowering gives: steps whose inputs are still named by other steps.

A step becomes a derivation when the content of each of its inputs is known (`Build.resolve`); following the
realisations of one step after another from the sources on is what makes early cut-off work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ccstore.errors import CcError
from ccstore.model.derivation import SANDBOX_POLICY, Derivation, FixedOutput
from ccstore.model.hashes import Sha256


class Ref(NamedTuple):
    """Output `output` of the step that is called `step`, for example `kernel.tree`."""

    step: str
    output: str = "out"


@dataclass(frozen=True, slots=True)
class UrlSource:
    """Where a flat file can be had: URLs or `mirror://NAME/path`, in order. Size in bytes, time in seconds."""

    urls: tuple[str, ...]
    size: int | None = None
    executable: bool = False
    stall_timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class GitSource:
    """A commit of a repository; only `paths` of it when given (files or folders, relative to its top)."""

    url: str
    commit: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OciSource:
    """Where an image can be had: `reference` as the recipe has it (see ccstore.codec.oci.Reference).

    `layout` is the folder of an `oci:` reference, resolved against the recipe's own.
    """

    reference: str
    layout: Path | None = None


@dataclass(frozen=True, slots=True)
class Fetch:
    """A download with a known hash; `version` is what a lock file says that it is."""

    name: str
    fixed: FixedOutput
    source: UrlSource | GitSource | OciSource
    where: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Local:
    """A file or folder of the project (or a text of ours), taken by content when it is evaluated."""

    name: str
    object_name: str
    path: Path
    where: str = ""


@dataclass(frozen=True, slots=True)
class Build:
    """A build; `name` is the step's (`kernel.config`), `object_name` its objects' (`kernel-config`).

    `labels` says what a person calls the file behind an input (`kernel/config/virtio.config`), for messages.
    `timeout` is in seconds. `resumes`: its builder compiles, and can go on with what an earlier build left in
    `/build` (as `make` does), so that assistance makes it faster; that never enters the derivation.
    """

    name: str
    object_name: str
    argv: tuple[str, ...]
    root: Ref | None
    inputs: Mapping[str, Ref] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("out",)
    overlays: Mapping[str, str] = field(default_factory=dict)
    policy: int = SANDBOX_POLICY
    timeout: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    where: str = ""
    resumes: bool = False

    def references(self) -> Iterator[Ref]:
        if self.root:
            yield self.root
        yield from self.inputs.values()

    def resolve(self, content: Mapping[Ref, Sha256]) -> Derivation:
        """The derivation, given the NAR hash of every input."""
        return Derivation(
            name=self.object_name,
            argv=self.argv,
            root=content[self.root] if self.root else None,
            inputs={name: content[ref] for name, ref in self.inputs.items()},
            files=self.files,
            env=self.env,
            outputs=self.outputs,
            overlays=self.overlays,
            policy=self.policy,
        )


Step = Fetch | Local | Build


@dataclass(frozen=True, slots=True)
class Graph:
    """Every step of a project by name, and the other names (`kernel-debug.source`) that some of them have."""

    steps: Mapping[str, Step]
    aliases: Mapping[str, str] = field(default_factory=dict)
    recipes: Mapping[str, str] = field(default_factory=dict)  # recipe name -> its kind

    def find(self, target: str) -> Ref:
        """The output that TARGET (`recipe`, `recipe.step`, either with `^output`) means."""
        name, _, output = target.partition("^")
        step = None if name.startswith(".") else self.steps.get(self.aliases.get(name, name))
        if step is None:  # the steps of files, `./kernel/config/base.config`, are no targets
            raise CcError("recipe-unknown", f"there is no target {name!r}", hint=self._suggestion(name))
        outputs = step.outputs if isinstance(step, Build) else ("out",)
        if (output or "out") not in outputs:
            raise CcError(
                "recipe-unknown",
                f"{name} has no output {output or 'out'!r}",
                hint=f"its outputs are: {', '.join(outputs)}",
            )
        return Ref(step.name, output or "out")

    def _suggestion(self, name: str) -> str:
        import difflib

        known = sorted(each for each in {*self.steps, *self.aliases} if each[0] != ".")
        close = difflib.get_close_matches(name, known, 3)
        return f"did you mean {' or '.join(close)}?" if close else "`ccstore list` shows what there is"

    def references(self, step: Step) -> list[Ref]:
        return list(step.references()) if isinstance(step, Build) else []

    def closure(self, *targets: Ref) -> list[Step]:
        """The steps behind `targets`, inputs before what uses them. Raises `recipe-cycle`."""
        order: dict[str, Step] = {}
        open_steps: list[str] = []

        def visit(name: str) -> None:
            if name in order:
                return
            if name in open_steps:
                circle = " → ".join([*open_steps[open_steps.index(name) :], name])
                raise CcError("recipe-cycle", f"recipes need each other: {circle}", hint="break the circle")
            open_steps.append(name)
            for ref in self.references(self.steps[name]):
                visit(ref.step)
            open_steps.pop()
            order[name] = self.steps[name]

        for target in targets:
            visit(target.step)
        return list(order.values())
