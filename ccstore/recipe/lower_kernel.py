"""Lowering of kernels: `source` → `tree` → `patched` → `kconfig` → `config` → the kernel itself.

Each step has its builder in `ccstore.builders`, whose inputs and environment are described there. Steps of an
extending recipe that come out as the other recipe's are other names of those.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import Build, Fetch, Ref, UrlSource
from ccstore.recipe.document import Loc
from ccstore.recipe.draft import Draft, object_name, place, target
from ccstore.recipe.kinds import Download, KernelRecipe
from ccstore.recipe.parts import Part, PatchPart
from ccstore.recipe.project import Recipe
from ccstore.recipe.scripts import scripts
from ccstore.recipe.values import LocalFile

EPOCH = "1"  # of the steps that compile nothing
PYTHON = "/usr/bin/python3"


def lower_kernel(draft: Draft, recipe: Recipe, spec: KernelRecipe) -> None:
    """Adds the steps of a kernel recipe, `spec` being it with everything that it inherits."""
    assert spec.source is not None
    name = recipe.name

    def named(step: str) -> str | None:
        return _twin(spec, step)

    source = draft.add_or_alias(_source(recipe, spec.source), named("source"))
    tree = draft.add_or_alias(_tree(recipe, spec, source), named("tree"))
    if spec.patches:
        patched = draft.add_or_alias(_patched(draft, recipe, spec, tree), named("patched"))
    else:
        draft.aliases[f"{name}.patched"] = tree.step
        patched = tree
    kconfig = draft.add_or_alias(_kconfig(recipe, spec, patched), named("kconfig"))
    config = draft.add_or_alias(_config(draft, recipe, spec, kconfig), named("config"))
    draft.add(_kernel(recipe, spec, patched, config))
    draft.add(_image(recipe, spec))


def _twin(spec: KernelRecipe, step: str) -> str | None:
    """The same step of the recipe that this one extends."""
    return f"{spec.extends}.{step}" if spec.extends else None


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
    named = {f"patches-{index:02}": part for index, part in enumerate(spec.patches)}
    options = {name: _options(part) for name, part in named.items()}
    return Build(
        f"{recipe.name}.patched",
        f"{recipe.name}-patched",
        (PYTHON, "/in/.builder/patch.py"),
        target(spec.toolchain),
        inputs={"tree": tree, **_refs(draft, recipe, spec, named)},
        files=scripts("patch.py"),
        env={
            "OPTIONS": json.dumps({name: each for name, each in options.items() if each}, sort_keys=True),
            "SOURCE_DATE_EPOCH": EPOCH,
        },
        overlays={"out": "tree"},
        timeout=spec.timeout,
        labels=_labels(named),
        where=place(recipe, "patches"),
    )


def _kconfig(recipe: Recipe, spec: KernelRecipe, tree: Ref) -> Build:
    return Build(
        f"{recipe.name}.kconfig",
        f"{recipe.name}-kconfig",
        (PYTHON, "/in/.builder/kconfig_tree.py"),
        target(spec.toolchain),
        inputs={"tree": tree},
        files=scripts("kconfig_tree.py"),
        env={"SOURCE_DATE_EPOCH": EPOCH},
        timeout=spec.timeout,
        where=place(recipe, "config"),
    )


def _config(draft: Draft, recipe: Recipe, spec: KernelRecipe, tree: Ref) -> Build:
    base = spec.config.base
    named: dict[str, Part] = {
        f"fragment-{index:02}-{object_name(part.name)}": part
        for index, part in enumerate(spec.config.fragments)
    }
    if not base.make:
        named["base"] = base
    return Build(
        f"{recipe.name}.config",
        f"{recipe.name}-config",
        (PYTHON, "/in/.builder/kconfig.py"),
        target(spec.toolchain),
        inputs={"tree": tree, **_refs(draft, recipe, spec, named)},
        files=scripts("kconfig.py"),
        env={
            "BASE": base.make or "file",
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
        files=scripts("kernel.sh", "elfpack.py"),
        env={
            "MODULES": "1" if spec.modules else "0",
            "LOCALVERSION": spec.localversion,
            "SOURCE_DATE_EPOCH": str(spec.source_date_epoch),
        },
        outputs=("out", "dev"),
        timeout=spec.timeout,
        where=place(recipe, "kind"),
        resumes=True,
    )


def _image(recipe: Recipe, spec: KernelRecipe) -> Build:
    """The kernel as an image for a registry; nothing but an export needs it."""
    labels = {
        "title": recipe.name,
        "description": "Linux kernel for guest virtual machines",
        "licenses": "GPL-2.0-only WITH Linux-syscall-note",
    }
    return Build(
        f"{recipe.name}.oci",
        f"{recipe.name}-oci",
        (PYTHON, "/in/.builder/oci_image.py"),
        target(spec.toolchain),
        inputs={"kernel": Ref(recipe.name), "dev": Ref(recipe.name, "dev")},
        files={**scripts("oci_image.py"), "oci.json": image_request("kernel", labels)},
        env={"SOURCE_DATE_EPOCH": str(spec.source_date_epoch)},
        timeout=spec.timeout,
        where=place(recipe, "kind"),
    )


def image_request(
    image: str,
    labels: Mapping[str, str],
    entrypoint: Sequence[str] | None = None,
    max_size: int | None = None,
) -> str:
    """What builders/oci_image.py is asked for; `labels` are those of OCI, without their prefix."""
    named = {f"org.opencontainers.image.{key}": text for key, text in labels.items()}
    value = {
        "image": image,
        "labels": named,
        "entrypoint": list(entrypoint) if entrypoint else None,
        "maxSize": max_size,
    }
    return json.dumps(value, sort_keys=True)


def _refs(draft: Draft, recipe: Recipe, spec: KernelRecipe, parts: Mapping[str, Part]) -> dict[str, Ref]:
    return {name: _ref(draft, recipe, spec, name, part) for name, part in parts.items()}


def _ref(draft: Draft, recipe: Recipe, spec: KernelRecipe, name: str, part: Part) -> Ref:
    """Where input `name` comes from; what is only a part of a target is a step of its own, for early cut-off."""
    if isinstance(part.path, LocalFile):
        return draft.local(part.path)
    assert part.from_
    if part.path is None:
        return target(part.from_)
    step = object_name(f"{recipe.name}.{name}")
    taken = Build(
        step,
        object_name(f"{recipe.name}-{name}"),
        (PYTHON, "/in/.builder/part.py"),
        target(spec.toolchain),
        inputs={"source": target(part.from_)},
        files=scripts("part.py", "unpack.sh", "tarfilter.py", "archive.py"),
        env={"PART": part.path, "SOURCE_DATE_EPOCH": EPOCH},
        timeout=spec.timeout,
        labels={"source": part.from_},
        where=_part_place(recipe, part),
    )
    return draft.add_or_alias(taken, _twin(spec, name))


def _part_place(recipe: Recipe, part: Part) -> str:
    """Where this recipe names the part, or its first line when it inherits that."""
    if not isinstance(recipe.spec, KernelRecipe):
        raise TypeError(f"{recipe.name} is no kernel")
    lists: dict[Loc, Sequence[Part]] = {
        ("patches",): recipe.spec.patches,
        ("config", "base"): [recipe.spec.config.base],
        ("config", "fragments"): recipe.spec.config.fragments,
        ("config", "add"): recipe.spec.config.add,
    }
    for loc, parts in lists.items():
        for index, each in enumerate(parts):
            if each is part:
                return recipe.document.where((*loc, index))
    return place(recipe, "kind")


def _options(part: PatchPart) -> dict[str, str | bool]:
    """What patch.py is to know of an input, beyond what goes without saying."""
    options: dict[str, str | bool] = {"skip-applied": True} if part.skip_applied else {}
    return {**options, "series": part.series} if part.series else options


def _labels(parts: Mapping[str, Part]) -> dict[str, str]:
    return {name: part.label for name, part in parts.items()}
