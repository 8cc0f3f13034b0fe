"""The lineage of a target as its recipe is now; what `realize` keeps of it beside the target's root."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from ccstore.build.resolve import Resolved
from ccstore.model.derivation import PLATFORM
from ccstore.model.graph import Build, Fetch, GitSource, Graph, Local, OciSource, Ref
from ccstore.model.lineage import ROOT, Lineage, Origin

MOST_KEPT = 256 << 10  # bytes of texts of one leaf; a larger one is compared by what the store has of it


def lineage_of(graph: Graph, top: Ref, resolved: Mapping[str, Resolved], *, texts: bool) -> Lineage:
    """The lineage of `top`, whose steps are all in `resolved`; with `texts`, those of small local files too."""
    origins = {step.name: _origin(resolved[step.name], resolved, texts=texts) for step in graph.closure(top)}
    return Lineage(top, int(time.time()), origins)


def _origin(here: Resolved, resolved: Mapping[str, Resolved], *, texts: bool) -> Origin:
    step = here.step
    derivation = here.derivation.id if here.derivation else None
    contents = {output: each.object.nar_hash.hex for output, each in here.outputs.items()}
    if isinstance(step, Build):
        return Origin(
            step.name,
            "build",
            derivation,
            contents,
            inputs=({ROOT: step.root} if step.root else {}) | dict(step.inputs),
            env=step.env,
            files=step.files,
            rest=rest(step.argv, step.outputs, step.overlays, step.policy, PLATFORM),
            where=step.where,
        )
    if isinstance(step, Fetch):
        return Origin(step.name, "fetch", derivation, contents, says=_said_of(step), where=step.where)
    kept = read_texts(step.path, MOST_KEPT) if texts else None
    says = {"file": _label(step)}
    return Origin(step.name, "local", derivation, contents, says=says, texts=kept, where=step.where)


def rest(
    argv: tuple[str, ...], outputs: tuple[str, ...], overlays: Mapping[str, str], policy: int, platform: str
) -> dict[str, str]:
    """`Origin.rest` of a build."""
    return {
        "command": " ".join(argv),
        "outputs": " ".join(sorted(outputs)),
        "overlays": " ".join(f"{output}={name}" for output, name in sorted(overlays.items())),
        "sandbox policy": str(policy),
        "platform": platform,
    }


def _said_of(step: Fetch) -> dict[str, str]:
    source = step.source
    if isinstance(source, GitSource):
        return {"commit": source.commit, "repository": source.url, "paths": " ".join(source.paths)}
    if isinstance(source, OciSource):
        return {"image": source.reference}
    return {"version": step.version, "file": source.urls[0].rpartition("/")[2]}


def _label(step: Local) -> str:
    return step.name.removeprefix("./")


def read_texts(place: Path, most: int) -> dict[str, str] | None:
    """The files at `place` by relative path, "" for the file itself; None if they have more than `most` bytes.

    Of a link, its text; every byte survives, as a surrogate if need be.
    """
    found: dict[str, str] = {}
    for path in files_below(place):
        try:
            if path.is_symlink():
                data = os.fsencode(path.readlink())
            elif path.stat().st_size > most:
                return None
            else:
                data = path.read_bytes()
        except OSError:
            return None  # it went while it was read
        most -= len(data)
        if most < 0:
            return None
        name = "" if path == place else str(path.relative_to(place))
        found[name] = data.decode(errors="surrogateescape")
    return found


def files_below(place: Path) -> list[Path]:
    """The file itself, or every file and link in the folder."""
    if place.is_symlink() or not place.is_dir():
        return [place]
    return [
        path
        for folder, folders, names in os.walk(place)
        for path in (Path(folder, name) for name in (*folders, *names))
        if path.is_symlink() or not path.is_dir()
    ]
