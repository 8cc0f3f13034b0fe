"""Following realisations from the sources on: which derivation each step is, and what it gave (pure).

A step's derivation is known as soon as the content of its inputs is, whether or not the objects themselves are
still there. That is early cut-off: a step that was rebuilt to the same content changes nothing behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ccstore.model.derivation import AnyDerivation, FixedOutput
from ccstore.model.graph import Build, Fetch, Graph, Local, Ref, Step
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import OutputId, Purity, Realisation, worst

Outputs = Mapping[str, Realisation]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A step, its derivation once every input is known, and its realisations once every output is."""

    step: Step
    derivation: AnyDerivation | None
    outputs: Outputs = field(default_factory=dict)

    @property
    def realised(self) -> bool:
        return bool(self.outputs)


def local_realisation(step: Local, content: ObjectInfo) -> tuple[FixedOutput, Realisation]:
    """What a local file is: a fixed-output derivation whose hash was just computed."""
    fixed = FixedOutput(step.object_name, "nar", content.nar_hash)
    return fixed, Realisation(OutputId(fixed.id, "out"), content, executor="local")


def resolve(
    graph: Graph,
    targets: list[Ref],
    local_content: Callable[[Local], ObjectInfo],
    realisation: Callable[[OutputId], Realisation | None],
    accepts: Purity = "assisted",
) -> dict[str, Resolved]:
    """Every step behind `targets` by name, inputs first; nothing counts that is less pure than `accepts`."""
    found: dict[str, Resolved] = {}
    for step in graph.closure(*targets):
        if isinstance(step, Local):
            fixed, local = local_realisation(step, local_content(step))
            found[step.name] = Resolved(step, fixed, {"out": local})
        elif isinstance(step, Fetch):
            found[step.name] = Resolved(step, step.fixed, known_outputs(step.fixed, realisation, accepts))
        else:
            found[step.name] = _resolve_build(step, found, realisation, accepts)
    return found


def _resolve_build(
    step: Build,
    found: Mapping[str, Resolved],
    realisation: Callable[[OutputId], Realisation | None],
    accepts: Purity,
) -> Resolved:
    content: dict[Ref, Sha256] = {}
    for ref in step.references():
        outputs = found[ref.step].outputs
        if not outputs:
            return Resolved(step, None)
        content[ref] = outputs[ref.output].object.nar_hash
    derivation = step.resolve(content)
    return Resolved(step, derivation, known_outputs(derivation, realisation, accepts))


def known_outputs(
    derivation: AnyDerivation,
    realisation: Callable[[OutputId], Realisation | None],
    accepts: Purity = "assisted",
) -> dict[str, Realisation]:
    """The realisations of all outputs, or none at all when one of them is missing or less pure than `accepts`.

    What an incremental build gave is no answer to others than those who ask for it: a plain realize makes it again.
    """
    outputs: dict[str, Realisation] = {}
    identity = derivation.id
    for output in derivation.outputs:
        known = realisation(OutputId(identity, output))
        if known is None or worst([known.purity, accepts]) != accepts:
            return {}
        outputs[output] = known
    return outputs
