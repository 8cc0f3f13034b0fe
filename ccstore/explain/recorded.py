"""The lineage of a realisation, as far as derivations and realisations tell it: hashes, and names of objects.

A build's inputs are realisations by hash in its derivation and by id in its realisation; the two are brought
together here. What a package's version was, the tree made of it says (`var/lib/dpkg/status`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ccstore.build.lineage import rest
from ccstore.model.derivation import BUILTIN, Derivation, FixedOutput
from ccstore.model.graph import Ref
from ccstore.model.hashes import Sha256
from ccstore.model.lineage import ROOT, Lineage, Origin
from ccstore.model.realisation import OutputId, Realisation
from ccstore.store.store import Store

STATUS = "var/lib/dpkg/status"


def recorded(store: Store, output: OutputId) -> Lineage | None:
    """The lineage of `output`, its keys being ids of derivations; None if nothing is known of it."""
    if store.realisations.get(output) is None:
        return None
    reading = _Reading(store)
    reading.visit(output.derivation)
    return Lineage(Ref(*output), 0, reading.origins)


class _Reading:
    def __init__(self, store: Store) -> None:
        self._store = store
        self.origins: dict[str, Origin] = {}

    def visit(self, identity: str) -> None:
        waiting = [identity]
        while waiting:
            each = waiting.pop()
            if each not in self.origins:
                self.origins[each] = origin = self._origin(each)
                waiting += [ref.step for ref in origin.inputs.values()]
                self._say_versions(origin)

    def _origin(self, identity: str) -> Origin:
        derivation = self._store.realisations.derivation(identity)
        if derivation is None:  # its realisation came from a cache, without it
            return Origin(identity[:16], "build", identity)
        outputs = self._outputs(identity, derivation.outputs)
        contents = {name: each.object.nar_hash.hex for name, each in outputs.items()}
        if isinstance(derivation, FixedOutput):
            local = any(each.executor == "local" for each in outputs.values())
            return Origin(derivation.name, "local" if local else "fetch", identity, contents)
        inputs = self._inputs(derivation, outputs.values())
        return Origin(
            derivation.name,
            "build",
            identity,
            contents,
            inputs=inputs,
            env=derivation.env,
            files=derivation.files,
            rest=rest(
                derivation.argv,
                derivation.outputs,
                derivation.overlays,
                derivation.policy,
                derivation.platform,
            ),
        )

    def _outputs(self, identity: str, names: Iterable[str]) -> dict[str, Realisation]:
        found = {name: self._store.realisations.get(OutputId(identity, name)) for name in names}
        return {name: each for name, each in found.items() if each}

    def _inputs(self, derivation: Derivation, outputs: Iterable[Realisation]) -> dict[str, Ref]:
        ids = dict.fromkeys(each for output in outputs for each in output.inputs)
        known = [each for each in map(self._store.realisations.get, ids) if each]
        by_content = {each.object.nar_hash: Ref(*each.id) for each in known}
        wanted: dict[str, Sha256] = ({ROOT: derivation.root} if derivation.root else {}) | dict(
            derivation.inputs
        )
        return {name: by_content.get(content) or self._unknown(content) for name, content in wanted.items()}

    def _unknown(self, content: Sha256) -> Ref:
        """An input whose realisation is gone: its content is all that is left of it."""
        key = f"content {content.hex}"
        self.origins[key] = Origin(content.sri, "fetch", None, {"out": content.hex})
        return Ref(key)

    def _say_versions(self, origin: Origin) -> None:
        """Notes the versions of the packages that a root tree was made of."""
        if not origin.rest.get("command", "").startswith(BUILTIN):
            return
        versions = self._versions(origin)
        for name, ref in origin.inputs.items():
            if name in versions:
                before = self.origins.get(ref.step) or self._origin(ref.step)
                self.origins[ref.step] = replace(before, says={"version": versions[name]})

    def _versions(self, origin: Origin) -> Mapping[str, str]:
        found: dict[str, str] = {}
        known = self._store.realisations.get(OutputId(str(origin.derivation), "out"))
        if known is None or not self._store.objects.has(known.object.path):
            return found
        try:
            text = (self._store.objects.path(known.object.path) / STATUS).read_text()
        except OSError:
            return found
        for paragraph in text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line)
            found[fields.get("Package", "")] = fields.get("Version", "")
        return found
