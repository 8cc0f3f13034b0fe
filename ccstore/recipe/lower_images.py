"""What `image:` means, as a step of the graph.

    busybox, crun.step^out                          a target: a root tree of ours
    [docker://]registry/name[:tag]@sha256:…         an image in a registry
    oci:DIR[:tag]@sha256:…                          an image in an OCI layout of the project
    docker-daemon:name@sha256:<image id>            an image of the Docker daemon

A word that could be a target is one: an OCI image without a digest would be refused anyway.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ccstore.codec.oci import Reference
from ccstore.errors import CcError
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import Fetch, OciSource, Ref
from ccstore.recipe.document import Loc
from ccstore.recipe.draft import Draft, object_name, target
from ccstore.recipe.files import home_of, is_inside
from ccstore.recipe.linuxkit_values import target_of
from ccstore.recipe.project import Recipe


class Images:
    """The images that a recipe names, each once."""

    def __init__(self, draft: Draft, recipe: Recipe) -> None:
        self._draft, self._recipe = draft, recipe

    def resolve(self, image: str, loc: Loc) -> Ref:
        """The step that gives an image. Raises `image-unpinned`, `unsupported-field` and `recipe-outside`."""
        if name := target_of(image):
            return target(name)
        reference = self.reference(image, loc)
        assert reference.digest is not None
        step = f"{self._recipe.name}.{label_of(image).replace('@', '-')}"
        fixed = FixedOutput(object_name(step.replace(".", "-", 1)), "oci", reference.digest)
        source = OciSource(image, self._layout(reference, loc))
        twin = next((each for each in self._draft.steps.values() if _same(each, fixed)), None)
        where = self._recipe.document.where(loc)
        return self._draft.add_or_alias(Fetch(step, fixed, source, where), twin.name if twin else None)

    def reference(self, image: str, loc: Loc) -> Reference:
        """The reference that `image` spells. Raises what `resolve` does."""
        if image.startswith("@"):
            hint = "build the package as a recipe of this project, or name its image by digest"
            message = f"templates such as {image!r} are valid in LinuxKit and not supported here"
            raise self._error(message, loc, "unsupported-field", hint)
        try:
            reference = Reference.parse(image)
        except ValueError as error:
            raise self._error(str(error), loc, None, "name a target, or NAME@sha256:…") from error
        if reference.digest is None:
            message = f"the image {image} has no digest, so it names something that changes"
            raise self._error(message, loc, "image-unpinned", f"write {image}@sha256:…, or name a recipe")
        return reference

    def _layout(self, reference: Reference, loc: Loc) -> Path | None:
        if reference.place != "layout":
            return None
        path = Path(os.path.normpath(self._recipe.path.parent / reference.layout))
        if not is_inside(path, home_of(self._recipe.path, self._draft.project.root)):
            message = f"{reference.layout} is outside of the project"
            raise self._error(message, loc, "recipe-outside", "copy the layout into the project")
        return path

    def _error(self, message: str, loc: Loc, code: str | None, hint: str) -> CcError:
        return self._recipe.document.error(message, loc, code=code, hint=hint)


def label_of(image: str) -> str:
    """What an image is called in the guest: `busybox`, `parts@doc` for an output, `alpine@0123456789ab`."""
    if target_of(image):
        return image.removesuffix("^out").replace("^", "@")
    reference = Reference.parse(image)
    assert reference.digest is not None
    name = (reference.repository or reference.layout).rstrip("/").rpartition("/")[2].lower()
    return f"{re.sub('[^a-z0-9.-]+', '-', name).strip('.-') or 'image'}@{reference.digest.hex[:12]}"


def _same(step: object, fixed: FixedOutput) -> bool:
    return isinstance(step, Fetch) and (step.fixed.method, step.fixed.sha256) == ("oci", fixed.sha256)
