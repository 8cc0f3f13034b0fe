"""What a store's builds left outside of the store: in a Docker daemon."""

from __future__ import annotations

from collections.abc import Mapping

from ccstore.codec.engine import engine
from ccstore.errors import CcError
from ccstore.events import Noted, Sink
from ccstore.executor.docker_sweep import Swept, sweep, sweep_images
from ccstore.model.hashes import Sha256
from ccstore.store.store import Store


def sweep_docker(store: Store, environ: Mapping[str, str], sink: Sink, *, dry_run: bool = False) -> Swept:
    """Removes what killed builds left in the daemon, and images of toolchains that the store no longer has.

    A daemon that does not answer is told and left alone; one that no build has used is not asked.
    """
    folder = store.layout.docker
    if not folder.exists():
        return Swept()

    def is_kept(toolchain: str) -> bool:
        return store.objects.with_content(Sha256.parse(toolchain)) is not None

    try:
        with engine(environ) as client:
            left = sweep(client.api, folder, dry_run=dry_run)
            images = sweep_images(client.api, folder, is_kept, dry_run=dry_run)
    except CcError as error:
        sink(Noted(f"what builds left in Docker stays there: {error.message}", warning=True))
        return Swept()
    return Swept(left.containers, left.volumes, images)
