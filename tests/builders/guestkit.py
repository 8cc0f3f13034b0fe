"""A small guest to be put together by tests."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ccstore.builders import guest_tree
from ccstore.builders.guest_root import Guest, GuestWrong

EPOCH = 1


def tree(folder: Path, files: dict[str, str]) -> Path:
    """A root tree as the store has it; a path ending in * is executable, `->` begins a link's target."""
    for path, text in files.items():
        place = folder / path.rstrip("*")
        place.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("->"):
            place.symlink_to(text[2:])
        else:
            place.write_text(text)
            place.chmod(0o555 if path.endswith("*") else 0o444)
    return folder


class Kit:
    """A description and its inputs, to be built."""

    def __init__(self, root: Path) -> None:
        self.inputs = root / "in"
        self._root = root
        self._runs = 0
        tree(
            self.inputs / "image-00",
            {"sbin/init*": "init", "etc/passwd": "root:x:0:0::/:\nweb:x:33:34::/:\n"},
        )
        tree(
            self.inputs / "image-01",
            {"bin/tool*": "t" * 5000, "etc/group": "audio:x:29:\n", "lib": "->usr/lib"},
        )
        self.guest: dict[str, Any] = {
            "boots": True,
            "images": {"pid1": "image-00", "box": "image-01"},
            "init": ["pid1"],
            "volumes": [],
            "onboot": [],
            "onshutdown": [],
            "services": [],
            "files": [],
            "attributes": [],
        }

    def serve(self, **more: Any) -> None:
        """Adds a service with the image `box`."""
        name = f"s{len(self.guest['services'])}"
        self.guest["services"].append({"name": name, "image": "box", "command": ["/bin/tool"], **more})

    def build(self) -> Guest:
        scratch = self._root / f"scratch-{self._runs}"
        scratch.mkdir()
        self._runs += 1
        guest = Guest(self.guest, self.inputs, scratch)
        guest.build()
        return guest

    def error(self) -> GuestWrong:
        with pytest.raises(GuestWrong) as caught:
            self.build()
        return caught.value

    def archive(self) -> tarfile.TarFile:
        guest = self.build()
        guest_tree.join_equals(guest.tree)
        path = self._root / f"rootfs-{self._runs}.tar"
        guest_tree.write_tar(guest.tree, path, EPOCH)
        return tarfile.open(path)

    def text(self, path: str) -> str:
        node = self.build().tree.find(path)
        assert node is not None, f"{path} is not there"
        return node.body.read().decode()

    def config(self, path: str = "services/000-s0") -> dict[str, Any]:
        return json.loads(self.text(f"containers/{path}/config.json"))  # type: ignore[no-any-return]

    def run(self, path: str = "services/000-s0") -> list[str]:
        return self.text(f"containers/{path}/run").splitlines()
