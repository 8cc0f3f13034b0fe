"""The root of a guest: components put together as its description says (runs inside the sandbox).

Inputs: `image-NN`, each a root tree of ours or an OCI layout, and `source-NN`, files of the project; the
description is the builder's file `guest.json`, made by ccstore.recipe.lower_guest:

    {"images": {NAME: INPUT}, "init": [NAME], "boots": true,
     "onboot": [CONTAINER], "onshutdown": […], "services": […],      LinuxKit's keys; `image` is a NAME
     "volumes": [{"name", "image": NAME | null, "readonly", "format"}],
     "files": [{"path", "contents" | "source": INPUT | "symlink" | "directory": true, "mode", "uid", "gid"}],
     "attributes": [{"path", "mode", "uid", "gid", "device"}]}

$out becomes a folder: `rootfs.tar`, a PAX archive that depends on the content alone, and `sizes.json`
({"components": {NAME: bytes}, "total": bytes}). A failure names the place in the description, which ccstore shows as
the line of the recipe.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING or __package__:
    from ccstore.builders import guest_layers, guest_spec, guest_tree
    from ccstore.builders import guest_words as words
else:  # inside the sandbox, where there is no ccstore
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import guest_layers
    import guest_spec
    import guest_tree
    import guest_words as words

Node, Tree = guest_tree.Node, guest_tree.Tree
INPUTS = Path("/in")
OUT = Path("/out/out")
SCRATCH = Path("/build")
IMAGES = "containers/images"
FOLDERS = {
    "proc": 0o555,
    "sys": 0o555,
    "dev": 0o755,
    "run": 0o755,
    "tmp": 0o1777,
    "etc": 0o755,
    "var": 0o755,
    "mnt": 0o755,
}
# init mounts something there before any container starts, so what a bind finds there is not known now
CHANGING = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var")  # noqa: S108 (of the guest)
SECTIONS = ("onboot", "onshutdown", "services")
RUN_ORDER = ("onboot", "services", "onshutdown")
FIRST_ID = 100  # of the ids that containers have, as in LinuxKit
INITS = ("init", "sbin/init")


class GuestWrong(Exception):  # noqa: N818 (it says of the description what is so)
    """The root cannot be made; `place` is where the description says so."""

    def __init__(self, code: str, message: str, place: str = "", hint: str | None = None) -> None:
        self.code, self.message, self.place, self.hint = code, message, place, hint
        super().__init__(message)


@contextmanager
def at(place: str) -> Iterator[None]:
    """Gives what goes wrong inside its place in the description."""
    try:
        yield
    except guest_spec.SpecWrong as error:
        raise GuestWrong(error.code, error.message, f"{place}.{error.key}", error.hint) from error
    except guest_layers.ImageWrong as error:
        raise GuestWrong(error.code, error.message, place) from error
    except guest_tree.TreeWrong as error:
        raise GuestWrong("path-conflict", str(error), place) from error


def container_ids(guest: Mapping[str, Any]) -> dict[str, int]:
    """The id that each container has, in LinuxKit's order."""
    names = [each["name"] for section in SECTIONS for each in guest[section]]
    return {name: FIRST_ID + index for index, name in enumerate(dict.fromkeys(names))}


def look_up(tree: guest_tree.Tree, name: str, kind: str) -> int | None:
    """The id of a user or group by the tree's own passwd or group file."""
    node = tree.find("etc/passwd" if kind == "user" else "etc/group")
    if node is None or node.kind != guest_tree.FILE:
        return None
    for line in node.body.read().decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[0] == name and fields[2].isdigit():
            return int(fields[2])
    return None


@dataclass(frozen=True)
class Started:
    """A container: as it is given, as it is with what its image says, its image's tree, and its mounts."""

    place: str
    given: Mapping[str, Any]
    container: Mapping[str, Any]
    image: guest_tree.Tree
    mounts: list[dict[str, Any]]

    def bound(self) -> Iterator[tuple[str, str]]:
        """The paths of the guest that it binds, each with its place (the image's, if its label says so)."""
        for number, text in enumerate(self.container.get("binds") or []):
            bind = words.bind(text)
            if bind.volume is None:
                yield self._place(number, text), bind.source
        for number, mount in enumerate(self.container.get("mounts") or []):
            if mount.get("type") == "bind" and mount["source"].startswith("/"):
                yield (
                    f"{self.place}.{'mounts.' + str(number) if 'mounts' in self.given else 'image'}",
                    mount["source"],
                )

    def _place(self, number: int, text: str) -> str:
        for key in ("binds", "binds.add"):
            if text in (self.given.get(key) or []):
                return f"{self.place}.{key}.{self.given[key].index(text)}"
        return f"{self.place}.image"


class Guest:
    """A root file system while it is put together."""

    def __init__(self, guest: Mapping[str, Any], inputs: Path, scratch: Path) -> None:
        self.guest = guest
        self.tree = Tree()
        self.sizes: dict[str, int] = {}
        self._inputs, self._scratch = inputs, scratch
        self._ids = container_ids(guest)
        self._images: dict[str, guest_layers.Image] = {}
        self._overlaid: set[str] = set()
        self._started: list[Started] = []
        self._volumes = {each["name"]: bool(each.get("readonly")) for each in guest["volumes"]}

    def build(self) -> None:
        """Everything, in LinuxKit's order: init, volumes, containers, files; then the attributes."""
        for index, name in enumerate(self.guest["init"]):
            with at(f"init.{index}"):
                self._measured(name, self._image(name, f"init.{index}").tree.root)
                self.tree.merge(self._image(name, f"init.{index}").tree.root)
        for path, mode in FOLDERS.items():
            with at("kind"):
                self.tree.folder(path).mode = mode
        for index, volume in enumerate(self.guest["volumes"]):
            with at(f"volumes.{index}"):
                self._volume(volume, f"volumes.{index}")
        for section in RUN_ORDER:
            for index, container in enumerate(self.guest[section]):
                with at(f"{section}.{index}"):
                    self._container(section, index, container)
        for index, file in enumerate(self.guest["files"]):
            with at(f"files.{index}"):
                self._file(file, f"files.{index}")
        for index, attribute in enumerate(self.guest["attributes"]):
            with at(f"attributes.{index}"):
                self._attribute(attribute, f"attributes.{index}")
        self._add_init()
        self._check_binds()
        for started in self._started:
            with at(started.place):
                for mount in started.mounts:
                    self._mount_point(started.image, mount)

    def _image(self, name: str, place: str) -> guest_layers.Image:
        """An image's tree, read once."""
        if name not in self._images:
            folder = self._inputs / self.guest["images"][name]
            if guest_layers.is_layout(folder):
                scratch = self._scratch / self.guest["images"][name]
                scratch.mkdir()
                with at(place):
                    self._images[name] = guest_layers.read_image(folder, scratch)
            elif folder.is_dir():
                self._images[name] = guest_layers.Image()
                self._images[name].tree.root = guest_tree.read_folder(str(folder))
            else:
                hint = "an image is a folder with a root tree, or an OCI image"
                raise GuestWrong("recipe-invalid", f"{name} is a file", place, hint)
        return self._images[name]

    def _measured(self, name: str, node: guest_tree.Node) -> None:
        self.sizes[name] = self.sizes.get(name, 0) + node.total()

    def _volume(self, volume: Mapping[str, Any], place: str) -> None:
        path = f"{guest_spec.VOLUMES}/{volume['name']}"
        self.tree.folder(path)
        if not volume.get("image"):
            return
        if volume.get("format") == "oci":
            layout = self._inputs / self.guest["images"][volume["image"]]
            if not guest_layers.is_layout(layout):
                raise GuestWrong("recipe-invalid", f"{volume['image']} is no OCI image", f"{place}.image")
            content = guest_tree.read_folder(str(layout))
        else:
            content = self._image(volume["image"], f"{place}.image").tree.root
        self._measured(f"volume {volume['name']}", content)
        self.tree.merge(content, path)

    def _container(self, section: str, index: int, given: Mapping[str, Any]) -> None:
        place = f"{section}.{index}"
        image = self._image(given["image"], f"{place}.image")
        root = f"{IMAGES}/{given['image']}"
        if self.tree.find(root) is None:
            self.tree.put(root, image.tree.root)
            self._measured(given["image"], image.tree.root)
        container = guest_spec.merged(given, image.config)

        def find(name: str, kind: str) -> int:
            found = self._ids.get(name, look_up(image.tree, name, kind))
            if found is None:
                message = f"there is no {kind} {name!r}: neither a container, nor one of the image's own"
                raise guest_spec.SpecWrong("uid" if kind == "user" else "gid", message)
            return found

        config = guest_spec.oci_config(container, section, f"/{root}", self._volumes, find)
        lines = guest_spec.run_lines(container, section, f"/{root}", self._volume_lines(config["mounts"]))
        self._make_places(container.get("runtime") or {})
        self._started.append(Started(place, given, container, image.tree, config["mounts"]))
        folder = f"containers/{section}/{index:03}-{given['name']}"
        text = json.dumps(config, indent=1, sort_keys=True) + "\n"
        self._text(f"{folder}/config.json", text)
        self._text(f"{folder}/run", "".join(" ".join(line) + "\n" for line in lines))

    def _make_places(self, runtime: Mapping[str, Any]) -> None:
        """What init makes before the start has to be there already where the root is read-only."""
        places = [*(runtime.get("mkdir") or [])]
        mounts = enumerate(runtime.get("mounts") or [])
        places += [
            guest_spec.complete_mount(each, f"runtime.mounts.{i}")["destination"] for i, each in mounts
        ]
        for path in places:
            if not path.startswith(tuple(f"{each}/" for each in CHANGING)):
                self.tree.folder(path)
        for path in (runtime.get("bindNS") or {}).values():
            if not path.startswith(tuple(f"{each}/" for each in CHANGING)) and self.tree.find(path) is None:
                self.tree.put(path, Node(guest_tree.FILE, 0o444))

    def _volume_lines(self, mounts: list[dict[str, Any]]) -> list[tuple[str, ...]]:
        """What overlays a volume that is written to; the first container to use it does it."""
        lines: list[tuple[str, ...]] = []
        for name, readonly in self._volumes.items():
            merged = guest_spec.volume_path(name, readonly)
            used = any(each["source"] == merged for each in mounts)
            if readonly or not used or name in self._overlaid:
                continue
            self._overlaid.add(name)
            base = merged.rpartition("/")[0]
            lower = f"{guest_spec.VOLUMES}/{name}"
            options = f"lowerdir={lower},upperdir={base}/upper,workdir={base}/work"
            lines += [("mkdir", f"{base}/upper"), ("mkdir", f"{base}/work")]
            lines.append(("mount", "overlay", "overlay", merged, options))
        return lines

    def _mount_point(self, image: guest_tree.Tree, mount: Mapping[str, Any]) -> None:
        """Something to mount on: a container's root may be read-only."""
        place = mount["destination"]
        if image.find(place) is not None:
            return
        source = self.tree.find(mount["source"]) if mount["type"] == "bind" else None
        if source is not None and not source.is_folder:
            image.put(place, Node(guest_tree.FILE, 0o644))
        else:
            image.folder(place)

    def _text(self, path: str, text: str) -> None:
        body = guest_tree.Body.of(text.encode("utf-8", "surrogateescape"))
        self.sizes["configuration"] = self.sizes.get("configuration", 0) + body.size
        self.tree.put(path, Node(guest_tree.FILE, 0o644, body=body))

    def _file(self, file: Mapping[str, Any], place: str) -> None:
        folder = bool(file.get("directory"))
        mode = words.mode(file["mode"]) if "mode" in file else 0o700 if folder else 0o600
        uid = self._owner(file.get("uid", 0), "user", place)
        gid = self._owner(file.get("gid", 0), "group", place)
        node = Node(guest_tree.FILE, mode, uid, gid)
        if folder:
            node.kind = guest_tree.DIRECTORY
        elif "symlink" in file:
            node.kind, node.mode, node.target = guest_tree.SYMLINK, 0o777, file["symlink"]
        else:
            node.body = self._body(file)
            self.sizes["files"] = self.sizes.get("files", 0) + node.body.size
        # a leading folder can be entered by whoever may read what is in it, as in LinuxKit
        entered = 0o700 | mode | (mode & 0o444) >> 2
        self.tree.folder(file["path"].rpartition("/")[0], mode=entered, uid=uid, gid=gid)
        self.tree.put(file["path"], node)

    def _body(self, file: Mapping[str, Any]) -> guest_tree.Body:
        if "contents" in file:
            return guest_tree.Body.of(file["contents"].encode("utf-8", "surrogateescape"))
        path = self._inputs / file["source"]
        return guest_tree.Body(path.stat().st_size, path)

    def _owner(self, value: int | str, kind: str, place: str) -> int:
        if isinstance(value, int):
            return value
        found = 0 if value == "root" else self._ids.get(value, look_up(self.tree, value, kind))
        if found is None:
            message = f"there is no {kind} {value!r}: neither a container, nor one of the guest's own"
            raise GuestWrong("recipe-invalid", message, f"{place}.{'uid' if kind == 'user' else 'gid'}")
        return found

    def _attribute(self, attribute: Mapping[str, Any], place: str) -> None:
        path = attribute["path"]
        if "device" in attribute:
            kind, major, minor = words.device(attribute["device"])
            self.tree.put(path, Node(guest_tree.DEVICES[kind], 0o600, device=(major, minor)))
        node = self.tree.find(path, follow=False)
        if node is None:
            hint = "attributes are for what is in the guest; `device` makes a node"
            raise GuestWrong("path-missing", f"/{path} is not in the guest", f"{place}.path", hint)
        if "mode" in attribute:
            node.mode = words.mode(attribute["mode"])
        if "uid" in attribute:
            node.uid = self._owner(attribute["uid"], "user", place)
        if "gid" in attribute:
            node.gid = self._owner(attribute["gid"], "group", place)

    def _add_init(self) -> None:
        """`/init` for an initramfs and `/sbin/init` for a disk: the one that is there, and a link to it."""
        there = [path for path in INITS if self.tree.find(path, follow=False) is not None]
        if not there and self.guest["boots"]:
            hint = "add one to `init`, for example guest-init"
            raise GuestWrong("path-missing", "no component brings /init or /sbin/init", "init", hint)
        for path in INITS:
            if there and path not in there:
                self.tree.put(path, Node(guest_tree.SYMLINK, 0o777, target=f"/{there[0]}"))

    def _check_binds(self) -> None:
        """What is bound has to be there when the container starts."""
        made = [*CHANGING]
        for each in self._started:
            runtime = each.container.get("runtime") or {}
            made += runtime.get("mkdir") or []
            made += [mount.get("destination", "") for mount in runtime.get("mounts") or []]
        made = [f"{path.rstrip('/')}/" for path in made if path]
        for started in self._started:
            for place, source in started.bound():
                if any(f"{source}/".startswith(path) for path in made):
                    continue
                with at(place):
                    there = self.tree.find(source)
                if there is None:
                    self._missing_bind(source, place)

    @staticmethod
    def _missing_bind(source: str, place: str) -> NoReturn:
        hint = "add it to `files` (`directory: true` for a folder), or make it at the start: `runtime: {mkdir: […]}`"
        raise GuestWrong("path-missing", f"{source} is bound and not in the guest", place, hint)


def report(error: GuestWrong) -> None:
    print(f"{error.place}: {error.message}", file=sys.stderr)
    value = {"code": error.code, "message": error.message, "input": error.place, "hint": error.hint}
    Path(os.environ["CCSTORE_REPORT"]).write_text(json.dumps(value))


def main() -> int:
    description = json.loads((Path(__file__).resolve().parent / "guest.json").read_text())
    guest = Guest(description, INPUTS, SCRATCH)
    try:
        guest.build()
    except GuestWrong as error:
        report(error)
        return 1
    print(f"{guest_tree.join_equals(guest.tree)} bytes of equal files are shared", file=sys.stderr)
    OUT.mkdir()
    guest_tree.write_tar(guest.tree, OUT / "rootfs.tar", int(os.environ["SOURCE_DATE_EPOCH"]))
    sizes = {"components": guest.sizes, "total": guest.tree.root.total()}
    (OUT / "sizes.json").write_text(json.dumps(sizes, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
