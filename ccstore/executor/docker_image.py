"""The toolchain as an image of the daemon: made once for each content, from the store's own files.

The image is known by the NAR hash of the tree, which its tag and a label say. `docker import` takes the layer as a
stream and names the image only when all of it is there, so a tag never means half a tree.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from ccstore.errors import CcError
from ccstore.executor import packing
from ccstore.ports import Tree

if TYPE_CHECKING:
    import docker

REPOSITORY = "ccstore/toolchain"
STORE, TOOLCHAIN = "ccstore.store", "ccstore.toolchain"  # labels
_FORMAT = 1  # of the layer that `packing.root` makes
_making = threading.Lock()  # two builds of one process that need the same image


def tag(tree: Tree) -> str:
    return f"{REPOSITORY}:{_FORMAT}-{tree.nar_hash.hex}"


def find(api: docker.APIClient, tree: Tree) -> str | None:
    """The id of the image of `tree`, if the daemon has it."""
    from docker.errors import ImageNotFound

    try:
        found: dict[str, Any] = api.inspect_image(tag(tree))
    except ImageNotFound:
        return None
    labels = found["Config"]["Labels"] or {}
    return str(found["Id"]) if labels.get(TOOLCHAIN) == tree.nar_hash.hex else None


def ensure(api: docker.APIClient, tree: Tree, owner: str) -> str:
    """The id of the image of `tree`, made now if it is not there. Raises `no-docker`."""
    with _making:
        return find(api, tree) or _make(api, tree, owner)


def _make(api: docker.APIClient, tree: Tree, owner: str) -> str:
    repository, _, name = tag(tree).partition(":")
    said = api.import_image_from_data(
        packing.root(tree),
        repository=repository,
        tag=name,
        changes=[f"LABEL {TOOLCHAIN}={tree.nar_hash.hex}", f"LABEL {STORE}={owner}"],
    )
    made = find(api, tree)
    if made is None:
        raise CcError(
            "no-docker",
            "the Docker daemon did not take the toolchain's tree as an image",
            hint="look at the daemon's log; has its disk room?",
            details=tuple(_errors(said)),
        )
    return made


def _errors(said: str) -> list[str]:
    answers = [json.loads(line) for line in said.splitlines() if line.strip()]
    return [str(each["error"]) for each in answers if "error" in each]
