"""A build request for a derivation: what an executor is asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ccstore.model.derivation import Derivation
from ccstore.ports import BuildRequest, Tree


def request_of(
    label: str,
    derivation: Derivation,
    trees: Mapping[str, Tree],
    out: Path,
    scratch: Path,
    *,
    cores: int,
    timeout: float | None = None,
    keep_failed: bool = False,
) -> BuildRequest:
    """`trees` has the content of each input by name, and the toolchain under ""; `out` and `scratch` exist."""
    return BuildRequest(
        label=label,
        root=trees[""],
        argv=derivation.argv,
        staging=out,
        scratch=scratch,
        inputs={name: tree for name, tree in trees.items() if name},
        files=derivation.files,
        env=derivation.env,
        outputs=derivation.outputs,
        overlays=derivation.overlays,
        cores=cores,
        timeout=timeout,
        keep_failed=keep_failed,
    )
