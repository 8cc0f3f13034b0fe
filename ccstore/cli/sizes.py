"""What takes the room in a realised target (`ccstore show TARGET --sizes`).

A guest's formats say it themselves, in `sizes.json` (`ccstore.builders.image`): bytes by component of the root, and
by file of what boots. Of everything else, the entries of its top folder are the components.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ccstore.build.workspace import Workspace
from ccstore.cli.context import size
from ccstore.cli.terminal import shown
from ccstore.model.storepath import StorePath

Sizes = dict[str, Any]


def sizes_of(work: Workspace, target: str) -> Sizes:
    """Target, path, components and total in bytes; of a guest's image `files`, `image` and `max-size` too.

    Raises `not-realised`.
    """
    path = work.require_realised(target).object.path
    place = work.store.objects.path(path)
    components = _own_sizes(place) or _top_entries(work, path)
    return {"target": target, "path": str(place), **components}


def _own_sizes(place: Path) -> Sizes | None:
    """What an object says of its sizes, if it does; any build may have a file of that name."""
    try:
        value = json.loads((place / "sizes.json").read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(value, dict) or not all(
        _is_table(value.get(key, {})) for key in ("components", "files")
    ):
        return None
    if "components" not in value or not isinstance(value.get("total"), int):
        return None
    return {key: value[key] for key in ("components", "total", "files", "image", "max-size") if key in value}


def _is_table(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, int) for each in value.values())


def _top_entries(work: Workspace, path: StorePath) -> Sizes:
    components: Counter[str] = Counter()
    for entry in work.store.objects.manifest(path):
        if entry.type == "file":
            components[entry.path.partition("/")[0] or path.name] += entry.size
    return {"components": dict(components), "total": components.total()}


def lines(sizes: Sizes) -> Iterator[str]:
    """The table for people, largest first."""
    total = sizes["total"]
    for name, count in _largest_first(sizes["components"]):
        share = 100 * count / total if total else 0
        yield f"{size(count):>8}  {share:5.1f} %  {shown(name)}"
    yield f"{size(total):>8}           all components"
    if "files" in sizes:
        yield ""
    for name, count in _largest_first(sizes.get("files", {})):
        limit = sizes.get("max-size") if name == sizes.get("image") else None
        yield f"{size(count):>8}           {shown(name)}" + (f" (max-size: {size(limit)})" if limit else "")


def _largest_first(table: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(table.items(), key=lambda item: (-item[1], item[0]))
