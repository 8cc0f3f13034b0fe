"""Makes the formats of a guest by their builder, in the sandbox, from a root and a kernel that a test brings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ccstore.ports import Tree
from ccstore.recipe.guest import FORMATS
from ccstore.recipe.lower_guest import IMAGE_SCRIPTS
from tests.builders.conftest import Built, Step

BOOTABLE = tuple(name for name in FORMATS if name not in ("tar", "oci"))


class Images:
    """Makes images of `rootfs`, a folder as the step of that name gives it, and `kernel`, a folder too."""

    def __init__(self, tools: Tree, place: Path, rootfs: Path, kernel: Path, cmdline: str) -> None:
        self._tools = tools
        self._place = place
        self._made: dict[str, Built] = {}
        self._cmdline = cmdline
        self.rootfs = rootfs
        self.kernel = kernel

    def of(self, format: str) -> Built:
        """The image of the root in a format, made once for all tests."""
        if format not in self._made:
            self._made[format] = self.make(format)
        return self._made[format]

    def make(
        self, format: str, *, rootfs: Path | None = None, kernel: Path | None = None, **more: Any
    ) -> Built:
        request: dict[str, Any] = {
            "name": "tiny",
            "format": format,
            "cmdline": self._cmdline,
            "machine": "q35",
            "memory": "256M",
        }
        request |= {"agent": None, "maxSize": None, **more}
        step = Step(self._tools, self._folder(), ("/usr/bin/python3", "/in/.builder/image.py"), IMAGE_SCRIPTS)
        inputs = {"rootfs": rootfs or self.rootfs, "kernel": kernel or self.kernel}
        return step.run(inputs, texts={"image.json": json.dumps(request)})

    def look(self, image: Path, script: str) -> str:
        """The output of a shell script in the sandbox that sees `image` as /in/image."""
        step = Step(self._tools, self._folder(), ("/bin/sh", "-ec", f"({script}) >/out/out"))
        return step.run({"image": image}).out.read_text(errors="backslashreplace")

    def _folder(self) -> Path:
        return self._place / f"step-{len(list(self._place.iterdir()))}"
