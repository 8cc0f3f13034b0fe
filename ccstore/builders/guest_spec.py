"""From a container of a guest's description to its OCI runtime configuration and to what init does before it.

What counts comes from three places, the later ones first: what the image says (entry point, environment, folder,
user), its label `org.mobyproject.config`, and the description. Defaults are LinuxKit's: network, IPC and UTS of
the guest, a process namespace of its own, no capabilities, Docker's usual mounts; a bind without options is
`rw,rbind,rshared`, and the more options of one with options `rbind`.

Sources: OCI runtime specification 1.0.2 (config.md, config-linux.md); LinuxKit, docs/yaml.md. Stdlib only: the
recipe layer calls this to find faults before anything is built, the sandbox to build.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from ccstore.builders import guest_label
    from ccstore.builders import guest_words as words
else:
    import guest_label
    import guest_words as words

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DENIAL = "a rule of resources.devices that denies is not supported here: the guest's crun has no BPF"
VOLUMES = "/containers/volumes"
RUN = "/run/containers"
MERGED = {"capabilities.add": "capabilities", "binds.add": "binds"}
NAMESPACES = {  # key of the description: OCI's word, what counts if nothing is said, words for a new one
    "net": ("network", "host", ("new", "none")),
    "ipc": ("ipc", "host", ("new",)),
    "uts": ("uts", "host", ("new",)),
    "pid": ("pid", "new", ("new",)),
    "userns": ("user", "host", ("new",)),
}
_TYPES = ("mqueue", "devpts", "proc", "sysfs", "cgroup")
_PLACES = {
    "proc": "/proc",
    "devpts": "/dev/pts",
    "sysfs": "/sys",
    "cgroup": "/sys/fs/cgroup",
    "mqueue": "/dev/mqueue",
}


# an id of a user or group by name; the second word is "user" or "group"
FindId = Callable[[str, str], int]


class SpecWrong(Exception):  # noqa: N818 (it says of the description what is so)
    """What a container asks for does not go; `key` is where it says so (`binds`, or `binds.0`)."""

    def __init__(self, key: str, message: str, hint: str | None = None, code: str = "recipe-invalid") -> None:
        self.key, self.message, self.hint, self.code = key, message, hint, code
        super().__init__(f"{key}: {message}")


def merged(container: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The container with what its image says filled in. `config` is the `config` of an OCI image's configuration."""
    result: dict[str, Any] = {
        "command": [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])],
        "env": config.get("Env") or [PATH],
        "cwd": config.get("WorkingDir") or "/",
    }
    result |= _user(str(config.get("User") or ""))
    label = _label(config)
    for source in (label, container):
        result |= {key: value for key, value in source.items() if key not in MERGED}
    for added, key in MERGED.items():
        extra = [*label.get(added, []), *container.get(added, [])]
        if extra and key not in container:
            result[key] = list(dict.fromkeys([*result.get(key, []), *extra]))
    return result


def _user(text: str) -> dict[str, int | str]:
    """An image's `USER[:GROUP]`."""
    user, _, group = text.partition(":")
    try:
        return {key: words.identity(word) for key, word in (("uid", user), ("gid", group)) if word}
    except ValueError as error:
        raise SpecWrong("image", f"its user is {text!r:.100}: {error}", code="image-corrupt") from error


def _label(config: Mapping[str, Any]) -> dict[str, Any]:
    try:
        value = guest_label.read(config)
    except ValueError as error:
        raise SpecWrong("image", str(error), code="image-corrupt") from error
    others = sorted(set(value.get("runtime") or {}) - set(guest_label.RUNTIME))
    if others:
        message = f"its label {guest_label.LABEL} wants runtime.{others[0]}, which is not supported here"
        raise SpecWrong("image", message, "give the container a `runtime` of its own", "unsupported-field")
    return value


def oci_config(
    container: Mapping[str, Any], section: str, image: str, volumes: Mapping[str, bool], find: FindId
) -> dict[str, Any]:
    """The `config.json` of a merged container.

    `image` is the path of its root in the guest, `volumes` says of each volume whether it is read-only. Raises
    SpecWrong.
    """
    readonly = bool(container.get("readonly"))
    name = container["name"]
    root = image if readonly else f"{RUN}/{section}/{name}/rootfs"
    config: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": _process(container, find),
        "root": {"path": root, "readonly": readonly},
        "mounts": mounts(container, volumes),
        "linux": _linux(container),
    }
    if container.get("hostname"):
        if container.get("uts", "host") in ("host", "root"):
            raise SpecWrong("hostname", "wants a UTS namespace of its own", "add `uts: new`")
        config["hostname"] = container["hostname"]
    sysfs = any(each["type"] == "sysfs" for each in config["mounts"])
    if sysfs and container.get("userns") == "new" and container.get("net", "host") in ("host", "root"):
        # the kernel lets only the owner of a network namespace mount its sysfs
        raise SpecWrong(
            "userns", "users of its own cannot mount /sys of the guest's network", "add `net: new`"
        )
    if container.get("annotations"):
        config["annotations"] = container["annotations"]
    return config


def _process(container: Mapping[str, Any], find: FindId) -> dict[str, Any]:
    if not container.get("command"):
        hint = "give it a `command`; only an OCI image can bring one"
        raise SpecWrong("name", f"the container {container['name']} has no command", hint)
    user: dict[str, Any] = {
        "uid": _id(container, "uid", "user", find),
        "gid": _id(container, "gid", "group", find),
    }
    more = container.get("additionalGids") or []
    if more:
        user["additionalGids"] = [each if isinstance(each, int) else find(each, "group") for each in more]
    process: dict[str, Any] = {
        "terminal": False,
        "user": user,
        "args": list(container["command"]),
        "env": list(container["env"]),
        "cwd": container["cwd"],
        "capabilities": _capabilities(container),
        "noNewPrivileges": bool(container.get("noNewPrivileges")),
    }
    if container.get("rlimits"):
        limits = [_read(words.rlimit, "rlimits", text) for text in container["rlimits"]]
        process["rlimits"] = [{"type": name, "soft": soft, "hard": hard} for name, soft, hard in limits]
    if container.get("oomScoreAdj") is not None:
        process["oomScoreAdj"] = container["oomScoreAdj"]
    return process


def _id(container: Mapping[str, Any], key: str, kind: str, find: FindId) -> int:
    value = container.get(key, 0)
    if value in ("", "root"):
        return 0
    return value if isinstance(value, int) else find(value, kind)


def _capabilities(container: Mapping[str, Any]) -> dict[str, list[str]]:
    own = _read(words.capabilities, "capabilities", container.get("capabilities") or [])
    ambient = _read(words.capabilities, "ambient", container.get("ambient") or [])
    every = sorted({*own, *ambient})
    return {
        "bounding": every,
        "effective": sorted(set(own)),
        "inheritable": every,
        "permitted": every,
        "ambient": sorted(set(ambient)),
    }


def _read(parse: Callable[[Any], Any], key: str, value: Any) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise SpecWrong(key, str(error)) from error


def mounts(container: Mapping[str, Any], volumes: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Every mount of a container, folders before what is mounted in them; the last one at a place counts."""
    found = {each["destination"]: each for each in _usual_mounts(bool(container.get("readonly")))}
    for text in container.get("tmpfs") or []:
        place, options = _read(words.tmpfs, "tmpfs", text)
        found[place] = _mount(place, "tmpfs", "tmpfs", options)
    for index, text in enumerate(container.get("binds") or []):
        bind = _read(words.bind, "binds", text)
        source = bind.source if bind.volume is None else _volume(bind, volumes, index)
        options = ("rw", "rbind", "rshared") if bind.options is None else (*bind.options, "rbind")
        place = bind.destination.rstrip("/") or "/"
        found[place] = _mount(place, "bind", source, tuple(dict.fromkeys(options)))
    for index, given in enumerate(container.get("mounts") or []):
        mount = complete_mount(given, f"mounts.{index}")
        if mount["type"] == "bind" and not mount["source"].startswith("/"):
            bind = words.Bind(mount["source"], mount["destination"], tuple(mount["options"]))
            mount["source"] = _volume(bind, volumes, index, "mounts")
        found[mount["destination"]] = mount
    return [found[place] for place in sorted(found)]


def _usual_mounts(readonly: bool) -> list[dict[str, Any]]:
    also = ("ro",) if readonly else ()
    return [
        _mount("/proc", "proc", "proc", ("nosuid", "nodev", "noexec", "relatime")),
        _mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k", *also)),
        _mount(
            "/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")
        ),
        _mount("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", *also)),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "noexec", "nodev", "relatime", "ro")),
    ]


def _mount(place: str, kind: str, source: str, options: tuple[str, ...]) -> dict[str, Any]:
    return {"destination": place, "type": kind, "source": source, "options": list(options)}


def complete_mount(given: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A mount with what follows from the rest filled in. Raises SpecWrong if too little is said."""
    kind, source, place = (given.get(name, "") for name in ("type", "source", "destination"))
    options = tuple(given.get("options") or ())
    if not kind:
        bound = bool({"bind", "rbind"} & set(options))
        kind = source if source in _TYPES else "bind" if bound else "tmpfs" if place == "/dev" else ""
    place = place or _PLACES.get(kind, "")
    if not kind or not place:
        raise SpecWrong(key, f"the mount lacks its {'destination' if kind else 'type'}")
    if kind == "bind" and not source:
        raise SpecWrong(key, "the bind mount lacks its source")
    return _mount(_read(words.absolute, key, place), kind, source or kind, options)


def _volume(bind: words.Bind, volumes: Mapping[str, bool], index: int, key: str = "binds") -> str:
    name = bind.source
    if name not in volumes:
        known = f"there is {', '.join(sorted(volumes))}" if volumes else "there is none"
        raise SpecWrong(
            f"{key}.{index}", f"there is no volume {name!r}", f"a path begins with /; of volumes {known}"
        )
    if volumes[name] and "ro" not in (bind.options or ()):
        hint = f"mount it so: {name}:{bind.destination}:ro"
        raise SpecWrong(f"{key}.{index}", f"the volume {name} is read-only and used read-write", hint)
    return volume_path(name, volumes[name])


def volume_path(name: str, readonly: bool) -> str:
    """Where a container finds a volume: on the root itself, or, to be written to, overlaid in memory."""
    return f"{VOLUMES}/{name}" if readonly else f"{RUN}/volumes/{name}/merged"


def _linux(container: Mapping[str, Any]) -> dict[str, Any]:
    resources = _resources(container.get("resources") or {})
    nodes = []
    for device in container.get("devices") or []:
        if device["path"] == "all":
            resources.setdefault("devices", []).append(
                {"allow": True, "type": device["type"], "access": "rwm"}
            )
            continue
        node = {key: device.get(key, 0) for key in ("path", "type", "major", "minor")}
        nodes.append({**node, "fileMode": _read(words.mode, "devices", str(device["mode"]))})
        rule = {"allow": True, "type": node["type"], "major": node["major"], "minor": node["minor"]}
        resources.setdefault("devices", []).append({**rule, "access": "rwm"})
    linux: dict[str, Any] = {"namespaces": _namespaces(container)}
    optional = {
        "uidMappings": container.get("uidMappings"),
        "gidMappings": container.get("gidMappings"),
        "sysctl": container.get("sysctl"),
        "resources": resources,
        "cgroupsPath": container.get("cgroupsPath"),
        "devices": nodes,
        "rootfsPropagation": container.get("rootfsPropagation"),
        "maskedPaths": container.get("maskedPaths"),
        "readonlyPaths": container.get("readonlyPaths"),
    }
    return linux | {key: value for key, value in optional.items() if value}


def _namespaces(container: Mapping[str, Any]) -> list[dict[str, str]]:
    found = []
    for key, (kind, usual, new) in NAMESPACES.items():
        word = container.get(key) or usual
        if word in ("host", "root"):
            continue
        found.append({"type": kind} if word in new else {"type": kind, "path": word})
    new_users = {"type": "user"} in found
    if new_users != bool(container.get("uidMappings")) or new_users != bool(container.get("gidMappings")):
        raise SpecWrong("userns", "`userns: new`, `uidMappings` and `gidMappings` belong together")
    return [*found, {"type": "mount"}]


def _resources(given: Mapping[str, Any]) -> dict[str, Any]:
    """LinuxKit's words for limits as OCI's."""
    if any(not rule.get("allow") for rule in given.get("devices", ())):
        raise SpecWrong("resources", DENIAL, "leave it out", "unsupported-field")
    result = {key: value for key, value in given.items() if key != "blockio"}
    if "blockio" in given:
        result["blockIO"] = given["blockio"]
    return json.loads(json.dumps(result))  # type: ignore[no-any-return]


def run_lines(
    container: Mapping[str, Any], section: str, image: str, extra: list[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """What init does before the container, a line each; `extra` are lines of the guest's own, such as volumes."""
    runtime = container.get("runtime") or {}
    lines: list[tuple[str, ...]] = [("root" if container.get("readonly") else "overlay", image)]
    if container.get("onExit", "nothing") != "nothing":
        lines.append(("on-exit", container["onExit"]))
    lines += extra
    for index, given in enumerate(runtime.get("mounts") or []):
        mount = complete_mount(given, f"runtime.mounts.{index}")
        options = ",".join(mount["options"]) or "-"
        lines.append(("mount", mount["type"], mount["source"], mount["destination"], options))
    lines += [("mkdir", path) for path in runtime.get("mkdir") or []]
    bound = runtime.get("bindNS") or {}
    lines += [("bind-ns", kind, bound[kind]) for kind in sorted(bound)]
    lines += [("cgroup", path) for path in runtime.get("cgroups") or []]
    for line in lines:
        for word in line:
            if not word or re.search(r"\s", word):
                raise SpecWrong("runtime", f"{word!r} has a space or is empty, which init cannot read")
    return lines
