"""Loading an image into a Docker Engine."""

from __future__ import annotations

from collections.abc import Mapping

from ccstore.codec.engine import engine
from ccstore.codec.oci import Reference
from ccstore.errors import CcError
from ccstore.events import Noted, Sink
from ccstore.export.archive import image_archive
from ccstore.export.image import Image, familiar


def load(image: Image, names: list[Reference], sink: Sink, environ: Mapping[str, str]) -> None:
    """Loads `image` under its names, and looks at what the daemon then has.

    Raises `no-docker`, `fetch-stalled`, and `hash-mismatch` if the daemon made something else of it.
    """
    # an image is known by its config, or with Docker's containerd store by its manifest
    expected = {image.digest, f"sha256:{image.manifest.config.digest.hex}"}
    with engine(environ) as client:
        for answer in client.api.load_image(image_archive(image, names)):
            if "error" in answer:
                raise CcError(
                    "no-docker",
                    f"the Docker daemon refuses the image: {answer['error']}",
                    hint="look at the daemon's log, and at the room on its disk",
                )
        for name in map(familiar, names):
            got = client.images.get(name).id
            if got not in expected:
                raise CcError(
                    "hash-mismatch",
                    f"{name} in the Docker daemon is not what was sent",
                    hint="somebody else may have given that name away meanwhile: try again",
                    details=(f"wanted {' or '.join(sorted(expected))}", f"got    {got}"),
                )
            sink(Noted(f"loaded {name}"))
