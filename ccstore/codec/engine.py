"""The Docker Engine API, by Docker's own library, with its failures as ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ccstore.errors import CcError

if TYPE_CHECKING:
    import docker

ANSWER_TIMEOUT = 120  # seconds: Docker works through a whole image before the first byte of an answer
_HINT = (
    "start Docker (`systemctl start docker`), or name a daemon with DOCKER_HOST; its socket is open to root and the "
    "group `docker`; for ssh:// `pip install 'docker[ssh]'`"
)


@contextmanager
def engine(environ: Mapping[str, str]) -> Iterator[docker.DockerClient]:
    """The daemon that DOCKER_HOST names, or the local one. Raises `no-docker`, `fetch-stalled`, also in the block."""
    import docker
    import requests
    from docker.errors import APIError, DockerException

    try:
        client = docker.from_env(environment=dict(environ), timeout=ANSWER_TIMEOUT)
        try:
            client.ping()
            yield client
        finally:
            client.close()
    except requests.exceptions.ReadTimeout as error:
        raise CcError(
            "fetch-stalled",
            "the Docker daemon does not answer any more",
            hint="look at its log, and try again",
        ) from error
    except APIError as error:
        raise CcError("no-docker", f"the Docker daemon refuses: {error.explanation}", hint=_HINT) from error
    except (DockerException, requests.exceptions.RequestException) as error:
        address = environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        message = f"no Docker daemon answers at {address}: {_reason(error)}"
        raise CcError("no-docker", message, hint=_HINT) from error


def _reason(error: BaseException) -> str:
    """What the system said, if it said anything: the libraries wrap it several times."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return str(error)
