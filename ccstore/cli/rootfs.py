"""What `ccstore run --rootfs` means: a folder, an OCI image in a layout, or a target that is one of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ccstore.cli.boot import Targets
from ccstore.errors import CcError
from ccstore.guest.child import ContainerRoot


@contextmanager
def container_root(target: str, targets: Targets, given: str | None) -> Iterator[ContainerRoot]:
    """The root of the container in the guest `target`, for as long as its guest is started."""
    if given is not None and given.startswith("oci:"):
        with _layout_of(given, targets) as (layout, scratch):
            archive = _unpacked(layout, scratch, given)
    else:
        tree = _tree(target, targets, given)
        if not (tree / "oci-layout").is_file():
            yield ContainerRoot(folder=tree)
            return
        with _scratch(targets) as scratch:
            archive = _unpacked(tree, scratch, str(tree))
    try:
        yield ContainerRoot(archive=archive)
    finally:
        os.close(archive)


def _tree(target: str, targets: Targets, given: str | None) -> Path:
    if given is not None and (given in (".", "..") or "/" in given):
        tree = Path(given).absolute()
        if not tree.is_dir():
            message = f"there is no folder {tree} to be a container's root"
            raise CcError("file-missing", message, hint="--rootfs wants a folder, oci:DIR or a target")
        return tree
    tree = _target_or_folder(given, targets) if given else _default_container(target, targets)
    if not tree.is_dir():
        message = f"{given or target} is a file, and a container's root is a folder"
        raise CcError("usage", message, hint="--rootfs wants a folder, oci:DIR or a target")
    return tree


def _target_or_folder(given: str, targets: Targets) -> Path:
    try:
        return targets.path(given)
    except CcError as error:
        if error.code != "recipe-unknown" or not Path(given).is_dir():
            raise
        return Path(given).absolute()


def _default_container(target: str, targets: Targets) -> Path:
    """What the guest's recipe names as its container, from the evaluation cache if that knows it."""
    name = target.partition("^")[0].partition(".")[0]
    label = f"{name}%container"  # which no target is called
    known = targets.known(label)
    if known is not None:
        return known
    from ccstore.cli.context import open_workspace

    container = _container_of(name, targets)
    tree = targets.path(container)
    with open_workspace(targets.store) as work:
        work.answer_also(label, container)
    return tree


def _container_of(name: str, targets: Targets) -> str:
    from ccstore.cli.context import open_workspace
    from ccstore.recipe.guest import GuestRecipe

    with open_workspace(targets.store) as work:
        work.graph.find(name)
        recipe = work.project.recipes.get(name)
    container = recipe.spec.container if recipe and isinstance(recipe.spec, GuestRecipe) else None
    if container is None:
        message = f"the recipe {name} names no container to run a command in"
        raise CcError(
            "usage", message, hint="--rootfs gives one: a folder, or a target such as container-root"
        )
    return container


@contextmanager
def _scratch(targets: Targets) -> Iterator[Path]:
    """A folder that the next collection removes if this process cannot; elsewhere for a store of somebody else."""
    from ccstore.cli.context import open_store

    with ExitStack() as stack:
        store = stack.enter_context(open_store(targets.store))
        if store.writable:
            yield stack.enter_context(stack.enter_context(store.session()).staging("rootfs"))
        else:
            import tempfile

            yield Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ccstore-rootfs-")))


@contextmanager
def _layout_of(text: str, targets: Targets) -> Iterator[tuple[Path, Path]]:
    """A layout with the one image that `oci:DIR[@sha256:…]` names, and a folder to work in."""
    from ccstore.builders.guest_layers import is_layout
    from ccstore.codec.oci import Reference
    from ccstore.fetch.oci_image import write_image
    from ccstore.fetch.oci_layout import Layout
    from ccstore.ports import Cancel

    try:
        reference = Reference.parse(text)
    except ValueError as error:
        raise CcError("usage", f"--rootfs: {error}", hint="such as oci:DIR@sha256:…") from error
    folder = Path(reference.layout)
    if not is_layout(folder):
        message = f"there is no OCI image layout in {folder}"
        raise CcError("file-missing", message, hint="a layout has the files oci-layout and index.json")
    with _scratch(targets) as scratch:
        if reference.digest is None:
            yield folder, scratch
            return
        write_image(Layout(folder, text, Cancel()), reference.digest, text, scratch / "layout")
        yield scratch / "layout", scratch


def _unpacked(layout: Path, scratch: Path, label: str) -> int:
    """The image's tree as a descriptor of an archive without a name."""
    from ccstore.builders import guest_layers, guest_tree

    try:
        image = guest_layers.read_image(layout, scratch)
    except guest_layers.ImageWrong as wrong:
        raise CcError(wrong.code, wrong.message, where=label, hint="take another image") from wrong
    archive = scratch / "root.tar"
    guest_tree.write_tar(image.tree, archive, 1)
    return os.open(archive, os.O_RDONLY | os.O_CLOEXEC)
