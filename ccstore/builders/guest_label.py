"""The label `org.mobyproject.config` of an image: what it wants of a container, as JSON with LinuxKit's keys.

Whoever made the image wrote it, so nothing is taken for granted. Source: LinuxKit, docs/yaml.md ("Image
specification"). Stdlib only; runs inside the sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from ccstore.builders import guest_words as words
else:
    import guest_words as words

LABEL = "org.mobyproject.config"
Shape = Callable[[Any], bool]


def read(config: Mapping[str, Any]) -> dict[str, Any]:
    """The label in the `config` of an OCI image's configuration. Raises ValueError."""
    text = (config.get("Labels") or {}).get(LABEL)
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its label {LABEL} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"its label {LABEL} is no mapping of a container's keys")
    for key, found in value.items():
        if key not in _KEYS or not _KEYS[key](found):
            raise ValueError(f"its label {LABEL} has {key}: {found!r:.100}, which is nothing for a container")
    return value


def _text(value: object) -> bool:
    return isinstance(value, str)


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _anything(value: object) -> bool:
    return True


def _number(least: int, most: int) -> Shape:
    return lambda value: isinstance(value, int) and not _flag(value) and least <= value <= most


def _each(shape: Shape) -> Shape:
    return lambda value: isinstance(value, list) and all(map(shape, value))


def _mapping(shape: Shape) -> Shape:
    return lambda value: isinstance(value, dict) and all(map(shape, value.values()))


def _fields(shapes: Mapping[str, Shape], *wanted: str) -> Shape:
    """A mapping with some of these keys, and all of `wanted`."""
    return lambda value: (
        isinstance(value, dict)
        and set(wanted) <= set(value)
        and all(key in shapes and shapes[key](found) for key, found in value.items())
    )


def _identity(value: object) -> bool:
    return _text(value) or _number(0, 2**32 - 2)(value)


def _device(value: Any) -> bool:
    """With the path `all` a right, and else a node, which has a mode."""
    if not _fields(_DEVICE, "path", "type")(value):
        return False
    return value["path"] == "all" or ("mode" in value and value["type"] != "a")


def _mode(value: object) -> bool:
    try:
        words.mode(str(value), 0o777)
    except ValueError:
        return False
    return True


def _resources(value: object) -> bool:
    """Limits go on to the container's configuration as they are; only rules of devices are looked into."""
    return isinstance(value, dict) and _each(_mapping(_anything))(value.get("devices", []))


_WORDS = _each(_text)
_MAJOR_OR_MINOR = _number(0, 2**20 - 1)
_DEVICE: dict[str, Shape] = {
    "path": _text,
    "type": lambda value: value in ("a", "b", "c", "u", "p"),
    "major": _MAJOR_OR_MINOR,
    "minor": _MAJOR_OR_MINOR,
    "mode": _mode,
}
_MOUNTS = _each(_fields({**dict.fromkeys(("type", "source", "destination"), _text), "options": _WORDS}))
RUNTIME: dict[str, Shape] = {  # what is supported of it
    "cgroups": _WORDS,
    "mounts": _MOUNTS,
    "mkdir": _WORDS,
    "bindNS": _mapping(_text),
}
_KEYS: dict[str, Shape] = {
    **dict.fromkeys(("capabilities", "capabilities.add", "ambient", "binds", "binds.add", "tmpfs"), _WORDS),
    **dict.fromkeys(("command", "env", "maskedPaths", "readonlyPaths", "rlimits"), _WORDS),
    **dict.fromkeys(("cwd", "net", "pid", "ipc", "uts", "userns", "hostname", "cgroupsPath"), _text),
    **dict.fromkeys(("uidMappings", "gidMappings"), _each(_mapping(_number(0, 2**32 - 1)))),
    **dict.fromkeys(("sysctl", "annotations"), _mapping(_text)),
    **dict.fromkeys(("uid", "gid"), _identity),
    "mounts": _MOUNTS,
    "devices": _each(_device),
    "resources": _resources,
    "runtime": lambda value: (
        isinstance(value, dict) and all(RUNTIME.get(key, _anything)(value[key]) for key in value)
    ),
    "oomScoreAdj": _number(-1000, 1000),
    "rootfsPropagation": _text,
    "additionalGids": _each(_identity),
    "readonly": _flag,
    "noNewPrivileges": _flag,
}
