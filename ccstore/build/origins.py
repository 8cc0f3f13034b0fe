"""What a realised target was made of and from (`ccstore.export.origins`), out of its project and its realisations.

Objects on the way need not be here any more: what they were is known by their realisations. Only the target itself
is looked at, and files of the project.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ccstore.build.resolve import Resolved
from ccstore.build.workspace import Workspace
from ccstore.errors import CcError
from ccstore.export import purl
from ccstore.export.origins import File, Material, Origins, Product, Role, Use
from ccstore.model.derivation import Derivation
from ccstore.model.graph import Build, Fetch, GitSource, Local, OciSource, Ref
from ccstore.model.hashes import Sha256
from ccstore.model.realisation import Realisation
from ccstore.recipe.extends import full_kernels
from ccstore.recipe.kinds import KernelRecipe

MOST_FILES = 1000  # more are not named one by one
ASSEMBLED = ("guest", "debian")  # kinds of recipes whose results have their inputs in them


def origins_of(work: Workspace, target: str) -> Origins:
    """Raises `not-realised`, and `usage` for a target that nothing builds."""
    ref = work.graph.find(target)
    realisation = work.require_realised(target)
    found = _Origins(work, ref)
    derivation = found.resolved[ref.step].derivation
    if not isinstance(derivation, Derivation):
        hint = "name a target that is built; its documents tell of everything that it came from"
        raise CcError("usage", f"{target} is not built: it is a download or a file of the project", hint=hint)
    products = found.products()
    return Origins(
        target=f"{ref.step}^{ref.output}",
        product=products[-1],
        derivation=derivation,
        recipes=found.recipes(),
        materials=found.materials(),
        products=products,
        uses=found.uses(),
        files=tuple(_files(work, realisation)),
        epoch=_epoch(derivation),
    )


def _epoch(derivation: Derivation) -> int:
    text = derivation.env.get("SOURCE_DATE_EPOCH", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 1


def _files(work: Workspace, realisation: Realisation) -> Iterator[File]:
    tree = work.store.objects.tree(realisation.object.path)
    entries = [each for each in tree.entries() if each.type == "file"]
    if len(entries) > MOST_FILES:
        return
    for each in entries:
        sha1 = hashlib.sha1(usedforsecurity=False)
        with tree.open(each.path) as file:
            while chunk := file.read(1 << 20):
                sha1.update(chunk)
        yield File(each.path.encode("utf-8", "replace").decode(), each.sha256.hex(), sha1.hexdigest())


def _key(ref: Ref) -> str:
    """What the documents call an output; files of the project by their paths."""
    return ref.step.removeprefix("./") if ref.output == "out" else f"{ref.step}^{ref.output}"


@dataclass
class _Origins:
    """One target of a project, with all that led to it."""

    work: Workspace
    ref: Ref

    def __post_init__(self) -> None:
        self.resolved: Mapping[str, Resolved] = self.work.resolve([self.ref])
        self._versions = {
            name: spec.version
            for name, spec in full_kernels(self.work.project.recipes).items()
            if spec.version
        }

    def _used(self) -> Iterable[Ref]:
        """Every output that something was made with, and the target; inputs first."""
        wanted = {self.ref}
        for each in self.resolved.values():
            wanted.update(self.work.graph.references(each.step))
        for name, here in self.resolved.items():
            yield from (Ref(name, output) for output in sorted(here.outputs) if Ref(name, output) in wanted)

    def products(self) -> tuple[Product, ...]:
        found = [
            self._product(ref) for ref in self._used() if isinstance(self.resolved[ref.step].step, Build)
        ]
        [target] = [each for each in found if each.key == _key(self.ref)]
        return (*(each for each in found if each != target), target)

    def _product(self, ref: Ref) -> Product:
        known = self.resolved[ref.step].outputs[ref.output]
        recipe, _, step = ref.step.partition(".")
        version = "" if step in ("oci",) else self._versions.get(recipe, "")
        name = known.object.path.name
        return Product(_key(ref), name, known.id, known.object, known.executor, known.purity, version)

    def materials(self) -> tuple[Material, ...]:
        steps = [each for each in self.resolved.values() if not isinstance(each.step, Build)]
        return tuple(self._material(each) for each in steps)

    def _material(self, here: Resolved) -> Material:
        nar_hash = here.outputs["out"].object.nar_hash
        if isinstance(here.step, Local):
            return _local(here.step, nar_hash)
        step = here.step
        assert isinstance(step, Fetch)
        digest = step.fixed.sha256
        if isinstance(step.source, GitSource):
            url, commit = step.source.url, step.source.commit
            name = purl.git(step.name, url, commit)
            return Material(step.name, "git", step.name, nar_hash, None, "", (url,), commit, name)
        if isinstance(step.source, OciSource):
            reference = step.source.reference
            name = purl.image(reference, digest)
            return Material(step.name, "image", step.name, nar_hash, digest, "", (reference,), "", name)
        if step.version:
            return self._package(step, nar_hash)
        urls = step.source.urls
        name = purl.download(step.fixed.name, urls, digest)
        return Material(step.name, "file", step.fixed.name, nar_hash, digest, "", urls, "", name)

    def _package(self, step: Fetch, nar_hash: Sha256) -> Material:
        """A Debian package, as the lock file of its recipe has it."""
        recipe, _, name = step.name.partition(".")
        lock = self.work.project.recipes[recipe].lock
        assert lock is not None
        [found] = [each for each in lock.packages if each.name == name]
        known = purl.debian(name, found.version, found.architecture, lock.suite)
        urls = getattr(step.source, "urls", ())
        return Material(
            step.name, "package", name, nar_hash, step.fixed.sha256, found.version, urls, "", known
        )

    def uses(self) -> tuple[Use, ...]:
        found: dict[Use, None] = {}
        for ref in self._used():
            step = self.resolved[ref.step].step
            if not isinstance(step, Build):
                continue
            if step.root:
                found |= dict.fromkeys(self._tools(_key(ref), step.root))
            role: Role = "part" if self._is_assembled(step) else "source"
            for used in step.inputs.values():
                found[Use(_key(ref), _key(used), role)] = None
        return tuple(found)

    def _tools(self, user: str, root: Ref) -> Iterator[Use]:
        """A tree of tools, and the packages in it."""
        yield Use(user, _key(root), "tool")
        tree = self.resolved[root.step].step
        if isinstance(tree, Build) and self._kind(tree) == "debian":
            for used in tree.inputs.values():
                yield Use(user, _key(used), "tool")

    def _kind(self, step: Build) -> str:
        return self.work.graph.recipes.get(step.name.partition(".")[0], "")

    def _is_assembled(self, step: Build) -> bool:
        return self._kind(step) in ASSEMBLED or step.name.endswith(".oci")

    def recipes(self) -> dict[str, Any]:
        """What people wrote of the recipes that take part, without where on this machine others were taken from."""
        everyone = self.work.project.recipes
        names = {name.partition(".")[0] for name in self.resolved} & everyone.keys()
        for name in sorted(names):
            spec = everyone[name].spec
            while isinstance(spec, KernelRecipe) and spec.extends:
                names.add(spec.extends)
                spec = everyone[spec.extends].spec
        data = {name: cast(dict[str, Any], everyone[name].document.data) for name in sorted(names)}
        return {
            name: {key: value for key, value in sorted(given.items()) if key != "import"}
            for name, given in data.items()
        }


def _local(step: Local, nar_hash: Sha256) -> Material:
    key = _key(Ref(step.name))
    return Material(key, "local", key, nar_hash, _digest_of(step.path))


def _digest_of(path: Path) -> Sha256 | None:
    if path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as file:
        return Sha256(hashlib.file_digest(file, "sha256").digest())
