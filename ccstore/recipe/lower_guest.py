"""Lowering of guests: `rootfs`, `kernel` when an OCI image brings it, and a step for each format.

The description that the builder of the root gets (`guest.json`) says only what matters to the root; the kernel's
command line, sizes and the like go to the makers of images. What can be found wrong in a description without looking
into an image is found here, with the same functions that the builder uses.
"""

from __future__ import annotations

import json
from typing import Any

from ccstore.model.graph import Build, Ref
from ccstore.recipe.draft import Draft, object_name, place, target
from ccstore.recipe.guest import FORMATS, SECTIONS, WITHOUT_KERNEL, Format, GuestRecipe
from ccstore.recipe.guest_check import check_guest
from ccstore.recipe.linuxkit import Container
from ccstore.recipe.linuxkit_values import target_of
from ccstore.recipe.lower_images import Images, label_of
from ccstore.recipe.lower_kernel import image_request
from ccstore.recipe.project import Recipe
from ccstore.recipe.scripts import scripts

PYTHON = "/usr/bin/python3"
EPOCH = "1"
PLAIN = {"contents", "symlink", "mode", "uid", "gid"}  # of a file, what its builder is told as it is
ROOT_SCRIPTS = (
    "guest_root.py",
    "guest_blobs.py",
    "guest_label.py",
    "guest_layers.py",
    "guest_spec.py",
    "guest_tree.py",
    "guest_words.py",
)
KERNEL_SCRIPTS = ("vmlinux.py", "image_common.py", "guest_blobs.py", "guest_layers.py", "guest_tree.py")
IMAGE_SCRIPTS = (
    "image.py",
    "image_common.py",
    "image_cpio.py",
    "image_erofs.py",
    "image_ext4.py",
    "image_gpt.py",
    "image_pmem.py",
    "image_tar.py",
    "image_tree.py",
    "image_verity.py",
)


def lower_guest(draft: Draft, recipe: Recipe, spec: GuestRecipe) -> None:
    """Adds the steps of a guest. Raises `unsupported-field`, `image-unpinned`, `recipe-outside`, `recipe-invalid`."""
    check_guest(recipe, spec)
    images = Images(draft, recipe)
    rootfs = draft.add(_rootfs(draft, recipe, spec, images))
    kernel = _kernel(draft, recipe, spec, images)
    draft.add(_oci(recipe, spec, rootfs))
    for each in FORMATS:
        if kernel and each not in WITHOUT_KERNEL:
            draft.add(_image(recipe, spec, each, rootfs, kernel))
    draft.aliases[recipe.name] = f"{recipe.name}.{spec.main_format}"


def _rootfs(draft: Draft, recipe: Recipe, spec: GuestRecipe, images: Images) -> Build:
    name = f"{recipe.name}.rootfs"
    named: dict[str, str] = {}
    inputs: dict[str, Ref] = {}
    for loc, image in spec.images():
        ref, label = images.resolve(image, loc), label_of(image)
        if label not in named:
            named[label] = f"image-{len(named):02}"
            inputs[named[label]] = ref
    description = _description(spec, named)
    description["files"] = _files(draft, recipe, spec, inputs)
    return Build(
        name,
        f"{recipe.name}-rootfs",
        (PYTHON, "/in/.builder/guest_root.py"),
        target(spec.tools),
        inputs=inputs,
        files={**scripts(*ROOT_SCRIPTS), "guest.json": _json(description)},
        env={"SOURCE_DATE_EPOCH": EPOCH},
        labels=_places(recipe),
        where=place(recipe, "kind"),
    )


def _places(recipe: Recipe) -> dict[str, str]:
    """Where everything stands that the builder may complain of, by the names that it has for them."""
    text = recipe.document
    marks = {loc: mark for loc, mark in text.values.items() if isinstance(loc[-1], int) or loc in text.texts}
    return {".".join(map(str, loc)): text.place(mark) for loc, mark in (text.keys | marks).items()}


def _description(spec: GuestRecipe, named: dict[str, str]) -> dict[str, Any]:
    return {
        "boots": spec.kernel is not None,
        "images": named,
        "init": [label_of(name) for name in spec.init],
        "volumes": [
            {
                "name": each.name,
                "image": label_of(each.image) if each.image else None,
                "readonly": each.readonly,
                "format": each.format,
            }
            for each in spec.volumes
        ],
        **{section: [_container(each) for each in getattr(spec, section)] for section in SECTIONS},
        "attributes": [_given(each) for each in spec.attributes],
    }


def _container(container: Container) -> dict[str, Any]:
    value = _given(container)
    if "on-exit" in value:
        value["onExit"] = value.pop("on-exit")
    return {**value, "image": label_of(container.image)}


def _given(model: Any) -> dict[str, Any]:
    """What the recipe says, by LinuxKit's keys."""
    value: dict[str, Any] = model.model_dump(by_alias=True, exclude_unset=True)
    return value


def _files(draft: Draft, recipe: Recipe, spec: GuestRecipe, inputs: dict[str, Ref]) -> list[dict[str, Any]]:
    """The files of the description; those of the project become inputs."""
    result: list[dict[str, Any]] = []
    for each in spec.files:
        value: dict[str, Any] = each.model_dump(include=PLAIN, exclude_unset=True)
        value["path"] = each.path
        if each.directory:
            value["directory"] = True
        elif each.metadata:
            value["contents"] = _json(recipe.document.data)
        elif each.source:
            if each.source.path not in draft.project.found:
                continue  # optional, and not there
            value["source"] = f"source-{len(result):02}"
            inputs[value["source"]] = draft.local(each.source)
        result.append(value)
    return result


def _kernel(draft: Draft, recipe: Recipe, spec: GuestRecipe, images: Images) -> Ref | None:
    """The folder with vmlinux and bzImage, taken out of the image if it is not a target of ours."""
    if spec.kernel is None or not spec.kernel.image:
        return None
    ref = images.resolve(spec.kernel.image, ("kernel", "image"))
    if target_of(spec.kernel.image):
        return ref
    return draft.add(
        Build(
            f"{recipe.name}.kernel",
            f"{recipe.name}-kernel",
            (PYTHON, "/in/.builder/vmlinux.py"),
            target(spec.tools),
            inputs={"image": ref},
            files=scripts(*KERNEL_SCRIPTS),
            env={"SOURCE_DATE_EPOCH": EPOCH, "BINARY": spec.kernel.binary},
            labels={"image": recipe.document.where(("kernel", "image"))},
            where=place(recipe, "kernel"),
        )
    )


def _image(recipe: Recipe, spec: GuestRecipe, format: Format, rootfs: Ref, kernel: Ref) -> Build:
    request = {
        "name": recipe.name,
        "format": format,
        "cmdline": " ".join(spec.kernel.cmdline.split()) if spec.kernel else "",
        "machine": spec.machine,
        "memory": spec.memory,
        "agent": spec.agent,
        "maxSize": spec.max_size.get(format),
    }
    return Build(
        f"{recipe.name}.{format}",
        object_name(f"{recipe.name}-{format}"),
        (PYTHON, "/in/.builder/image.py"),
        target(spec.tools),
        inputs={"rootfs": rootfs, "kernel": kernel},
        files={**scripts(*IMAGE_SCRIPTS), "image.json": _json(request)},
        env={"SOURCE_DATE_EPOCH": EPOCH},
        where=place(recipe, "max-size" if "max_size" in spec.model_fields_set else "kind"),
    )


def _oci(recipe: Recipe, spec: GuestRecipe, rootfs: Ref) -> Build:
    return Build(
        f"{recipe.name}.oci",
        f"{recipe.name}-oci",
        (PYTHON, "/in/.builder/oci_image.py"),
        target(spec.tools),
        inputs={"rootfs": rootfs},
        files={
            **scripts("oci_image.py"),
            "oci.json": image_request("root", {"title": recipe.name}, ["/init"], spec.max_size.get("oci")),
        },
        env={"SOURCE_DATE_EPOCH": EPOCH},
        where=place(recipe, "max-size" if "max_size" in spec.model_fields_set else "kind"),
    )


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
