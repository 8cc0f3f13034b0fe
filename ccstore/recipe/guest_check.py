"""What can be found wrong in a guest's description before anything is built, each with its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ccstore.builders import guest_spec
from ccstore.recipe.document import Loc
from ccstore.recipe.guest import SECTIONS, WITHOUT_KERNEL, GuestRecipe
from ccstore.recipe.linuxkit import unsupported
from ccstore.recipe.linuxkit_values import target_of
from ccstore.recipe.project import Recipe

Problem = tuple[Loc, str, str | None]


def check_guest(recipe: Recipe, spec: GuestRecipe) -> None:
    """Raises `unsupported-field` or `recipe-invalid`: the first in the text, the others in its details."""
    _raise(recipe, "unsupported-field", _unsupported(spec))
    problems = [*_names(spec), *_sections(spec), *_kernel(spec), *_containers(spec)]
    _raise(recipe, "recipe-invalid", problems)


def _raise(recipe: Recipe, code: str, problems: list[Problem]) -> None:
    text = recipe.document
    found = [(text.mark(loc), message, hint) for loc, message, hint in problems]
    if not found:
        return
    first, *others = sorted(found, key=lambda each: (each[0].line, each[0].column))
    details = tuple(f"{text.place(mark)}: {message}" for mark, message, _ in others)
    raise text.error_at(first[0], first[1], code, hint=first[2], details=details)


def _unsupported(spec: GuestRecipe) -> list[Problem]:
    def problem(loc: Loc, reason: str) -> Problem:
        name = ".".join(str(part) for part in loc)
        return loc, f"{name} is valid in LinuxKit and not supported here: {reason}", "leave it out"

    found = [problem(loc, reason) for loc, reason in unsupported(spec)]
    if spec.kernel and spec.kernel.tar not in ("", "none"):
        found.append(problem(("kernel", "tar"), "modules come with the kernel's own recipe"))
    if spec.kernel and spec.kernel.binary and target_of(spec.kernel.image):
        found.append(problem(("kernel", "binary"), "a kernel of ours has a vmlinux and a bzImage"))
    for loc, container in spec.containers():
        rules = container.resources.devices if container.resources else []
        places = [(*loc, "resources", "devices", index) for index, rule in enumerate(rules) if not rule.allow]
        found += [
            problem(place, "the guest's crun has no BPF, so no device can be denied") for place in places
        ]
    for index, volume in enumerate(spec.volumes):
        if volume.platforms not in (None, ["linux/amd64"]):
            found.append(problem(("volumes", index, "platforms"), "a guest is linux/amd64"))
    return found


def _names(spec: GuestRecipe) -> Iterator[Problem]:
    """Containers of one section, and volumes, have names of their own."""
    for section in (*SECTIONS, "volumes"):
        seen: dict[str, int] = {}
        for index, each in enumerate(getattr(spec, section)):
            if each.name in seen:
                message = f"two {section} are called {each.name!r}"
                yield (section, index, "name"), message, "give one of them another name"
            seen[each.name] = index


def _sections(spec: GuestRecipe) -> Iterator[Problem]:
    for loc, container in spec.containers():
        if container.on_exit != "nothing" and loc[0] != "services":
            yield (*loc, "on-exit"), "on-exit is for services", "leave it out"


def _kernel(spec: GuestRecipe) -> Iterator[Problem]:
    if not (spec.kernel and spec.kernel.image) and spec.main_format not in WITHOUT_KERNEL:
        loc: Loc = ("format",) if "format" in spec.model_fields_set else ("kernel",)
        yield loc, f"the format {spec.main_format} needs a kernel", "add `kernel: {image: …}`"


def _containers(spec: GuestRecipe) -> Iterator[Problem]:
    """What the builder would find wrong without having seen the image."""
    volumes = {each.name: each.readonly for each in spec.volumes}
    for loc, container in spec.containers():
        value: dict[str, Any] = container.model_dump(by_alias=True, exclude_unset=True)
        if not target_of(container.image):  # its label and configuration may say the rest
            value.setdefault("command", ["?"])
        try:
            whole = guest_spec.merged(value, {})
            guest_spec.oci_config(whole, str(loc[0]), "/image", volumes, lambda name, kind: 0)
            guest_spec.run_lines(whole, str(loc[0]), "/image", [])
        except guest_spec.SpecWrong as error:
            yield (*loc, *_parts(value, error.key)), error.message, error.hint


def _parts(value: Mapping[str, Any], key: str) -> Loc:
    """`binds.0` as a location; the binds may be those of `binds.add`."""
    parts = tuple(int(part) if part.isdigit() else part for part in key.split("."))
    return (f"{parts[0]}.add", *parts[1:]) if parts[0] not in value and f"{parts[0]}.add" in value else parts
