"""A small project with every kind of recipe, to be changed by the tests."""

from __future__ import annotations

from pathlib import Path

from ccstore.model.graph import Graph
from ccstore.recipe.lower import lower
from ccstore.recipe.project import load_project

HASH = "9aad4025973feea3f0d978e82ab7db97d8d5ce3f59fcc6b1f316153d66e3a504"

TOOLCHAIN = """\
kind: debian
suite: bookworm
lock: ../pins/toolchain.yml
packages: [gcc, make]
links:
  usr/bin/sh: bash
  usr/bin/cc: gcc
exclude: [usr/share/doc/*, usr/share/man/*]
"""

LOCK = f"""\
suite: bookworm
component: main
release: {{valid-until: never}}
request: [make, gcc]
packages:
- name: gcc
  version: 4:12.2.0-3
  architecture: amd64
  path: pool/main/g/gcc-defaults/gcc_12.2.0-3_amd64.deb
  size: 5216
  sha256: {HASH}
- name: libstdc++6
  version: 12.2.0-14
  architecture: amd64
  path: pool/main/g/gcc-12/libstdc++6_12.2.0-14_amd64.deb
  size: 612784
  sha256: {HASH[::-1]}
"""

KERNEL = f"""\
kind: kernel
version: 6.10
toolchain: toolchain
source:
  url:
  - mirror://debian/pool/linux.tar.xz
  - https://example.org/linux.tar.xz
  sha256: {HASH}
  size: 137945728
patches: ../kernel/patches
config:
  base: tinyconfig
  fragments:
  - ../kernel/config/base.config
  - ../kernel/config/virtio.config
timeout: 3h
"""

KERNEL_DEBUG = """\
kind: kernel
extends: kernel
config:
  add: [../kernel/config/debug.config]
  drop: [../kernel/config/virtio.config]
"""

MODULE = """\
kind: build
toolchain: toolchain
inputs:
  linux: kernel-debug^dev
  source: kernel-debug.tree
  hello: {path: ../module/hello.c}
script: |
  make -C /in/linux
env: {LEVEL: 10}
outputs: [out, doc]
overlays: {out: source}
timeout: 1m30s
"""

FILES = {
    "recipes/ccstore.yml": "project: sample\n",
    "recipes/toolchain.yml": TOOLCHAIN,
    "recipes/kernel.yml": KERNEL,
    "recipes/kernel-debug.yml": KERNEL_DEBUG,
    "recipes/module.yml": MODULE,
    "recipes/firmware.yml": f"kind: url\nurl: https://example.org/fw\nsha256: {HASH}\nexecutable: true\n",
    "recipes/agent.yml": (
        "kind: git\nurl: https://example.org/agent\n"
        f"commit: c0c07d218b482dd07f9068b52a6e7468ae4172ac\npaths: [src, LICENSE]\nsha256: {HASH}\n"
    ),
    "recipes/guest.yml": "kind: path\npath: ../module\n",
    "pins/toolchain.yml": LOCK,
    "kernel/config/base.config": "CONFIG_64BIT=y\n",
    "kernel/config/virtio.config": "CONFIG_VIRTIO=y\n",
    "kernel/config/debug.config": "CONFIG_DEBUG_INFO=y\n",
    "kernel/patches/0001-x.patch": "a patch\n",
    "module/hello.c": "int x;\n",
}


def write(root: Path, **changes: str | None) -> Path:
    """Writes the sample; a change gives a recipe (`kernel_debug=...`) another text, or takes it away (None)."""
    files: dict[str, str | None] = dict(FILES)
    files |= {f"recipes/{name.replace('_', '-')}.yml": text for name, text in changes.items()}
    for name, text in files.items():
        if text is not None:
            put(root, name, text)
    return root


def put(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def graph(root: Path) -> Graph:
    return lower(load_project(root))
