"""Lowering of kernels: `source` → `tree` → `patched` → `config` → the kernel itself.

Each step has its builder in `ccstore.builders`, whose inputs and environment are described there. Steps of an
extending recipe that come out as the other recipe's are other names of those.
"""

from __future__ import annotations

from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import Build, Fetch, Ref, UrlSource
from ccstore.recipe.draft import Draft, object_name, place, target
from ccstore.recipe.kinds import Download, KernelRecipe
from ccstore.recipe.project import Recipe
from ccstore.recipe.scripts import scripts
from ccstore.recipe.values import LocalFile

EPOCH = "1"  # of the steps that compile nothing
PYTHON = "/usr/bin/python3"


def lower_kernel(draft: Draft, recipe: Recipe, spec: KernelRecipe) -> None:
    """Adds the steps of a kernel recipe, `spec` being it with everything that it inherits."""
    assert spec.source is not None
    twin = f"{spec.extends}." if spec.extends else None
    name = recipe.name

    def named(step: str) -> str | None:
        return twin + step if twin else None

    source = draft.add_or_alias(_source(recipe, spec.source), named("source"))
    tree = draft.add_or_alias(_tree(recipe, spec, source), named("tree"))
    if spec.patches:
        patched = draft.add_or_alias(_patched(draft, recipe, spec, tree), named("patched"))
    else:
        draft.aliases[f"{name}.patched"] = tree.step
        patched = tree
    config = draft.add_or_alias(_config(draft, recipe, spec, patched), named("config"))
    draft.add(_kernel(recipe, spec, patched, config))


def download(recipe: Recipe, step: str, spec: Download, where: str, *, executable: bool = False) -> Fetch:
    """A flat fetch; `step` is `<recipe>` or `<recipe>.<step>`."""
    name = object_name(step.replace(".", "-", 1))
    # the mode is part of the content and not of a flat hash, so it has to show in the identity some other way; no
    # recipe, step or package has a name with _
    fixed = FixedOutput(f"{name}_executable" if executable else name, "flat", spec.sha256)
    return Fetch(step, fixed, UrlSource(tuple(spec.url), spec.size, executable, spec.stall_timeout), where)


def _source(recipe: Recipe, source: Download) -> Fetch:
    return download(recipe, f"{recipe.name}.source", source, place(recipe, "source"))


def _tree(recipe: Recipe, spec: KernelRecipe, source: Ref) -> Build:
    return Build(
        f"{recipe.name}.tree",
        f"{recipe.name}-tree",
        ("/bin/sh", "/in/.builder/unpack.sh"),
        target(spec.toolchain),
        inputs={"source": source},
        files=scripts("unpack.sh", "tarfilter.py", "archive.py"),
        env={"SOURCE_DATE_EPOCH": EPOCH},
        timeout=spec.timeout,
        where=place(recipe, "source"),
    )


def _patched(draft: Draft, recipe: Recipe, spec: KernelRecipe, tree: Ref) -> Build:
    named = {f"patches-{index:02}": file for index, file in enumerate(spec.patches)}
    return Build(
        f"{recipe.name}.patched",
        f"{recipe.name}-patched",
        (PYTHON, "/in/.builder/patch.py"),
        target(spec.toolchain),
        inputs={"tree": tree, **_refs(draft, named)},
        files=scripts("patch.py"),
        env={"SOURCE_DATE_EPOCH": EPOCH},
        overlays={"out": "tree"},
        timeout=spec.timeout,
        labels=_labels(named),
        where=place(recipe, "patches"),
    )


def _config(draft: Draft, recipe: Recipe, spec: KernelRecipe, tree: Ref) -> Build:
    base = spec.config.base
    named = {
        f"fragment-{index:02}-{object_name(file.path.name)}": file
        for index, file in enumerate(spec.config.fragments)
    }
    if isinstance(base, LocalFile):
        named["base"] = base
    return Build(
        f"{recipe.name}.config",
        f"{recipe.name}-config",
        (PYTHON, "/in/.builder/kconfig.py"),
        target(spec.toolchain),
        inputs={"tree": tree, **_refs(draft, named)},
        files=scripts("kconfig.py"),
        env={
            "BASE": base if isinstance(base, str) else "file",
            "VERSION": spec.version,
            "SOURCE_DATE_EPOCH": EPOCH,
        },
        timeout=spec.timeout,
        labels=_labels(named),
        where=place(recipe, "config"),
    )


def _kernel(recipe: Recipe, spec: KernelRecipe, tree: Ref, config: Ref) -> Build:
    return Build(
        recipe.name,
        recipe.name,
        ("/bin/sh", "/in/.builder/kernel.sh"),
        target(spec.toolchain),
        inputs={"tree": tree, "config": config},
        files=scripts("kernel.sh"),
        env={
            "MODULES": "1" if spec.modules else "0",
            "LOCALVERSION": spec.localversion,
            "SOURCE_DATE_EPOCH": str(spec.source_date_epoch),
        },
        outputs=("out", "dev"),
        timeout=spec.timeout,
        where=place(recipe, "kind"),
    )


def _refs(draft: Draft, files: dict[str, LocalFile]) -> dict[str, Ref]:
    return {name: draft.local(file) for name, file in files.items()}


def _labels(files: dict[str, LocalFile]) -> dict[str, str]:
    return {name: file.label for name, file in files.items()}
