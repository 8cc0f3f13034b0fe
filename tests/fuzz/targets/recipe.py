"""A recipe is refused as CcError that says where and is of the person's making, or can be lowered.

The text is `recipes/fuzz.yml` of a project; begun with `#config` it is its configuration, with `#lock` the lock of a
Debian tree.
"""

from __future__ import annotations

from pathlib import Path

from ccstore.debian.lockfile import Lock, LockedPackage, Release, Request, render
from ccstore.errors import CcError
from ccstore.recipe.lower import lower
from ccstore.recipe.project import load_project
from tests.fuzz.target import Target

USER_ERROR = 2  # the exit status


def run(data: bytes, work: Path) -> bool:
    for path, content in (FILES | {_place(data): data}).items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_bytes(content)
    try:
        lower(load_project(work))
    except CcError as error:
        if error.exit_status != USER_ERROR or not error.where:
            raise
        return False
    return True


def _place(data: bytes) -> str:
    places = {b"#config": "recipes/ccstore.yml", b"#lock": "pins/lock.yml"}
    return next((place for mark, place in places.items() if data.startswith(mark)), "recipes/fuzz.yml")


HASH = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
DEBIAN = (
    "kind: debian\nsuite: bookworm\npackages: [bash]\nlock: ../pins/lock.yml\nlinks: {a: b}\nexclude: [a/*]\n"
)
PACKAGE = LockedPackage("bash", "1.0-1", "amd64", "pool/main/b/bash_1.0-1_amd64.deb", 12, "0" * 64)
LOCK = render(Lock(Request("bookworm", ("bash",)), Release("2026-01-01T00:00:00Z", "1" * 64), (PACKAGE,)))
FILES = {
    "recipes/ccstore.yml": b"",
    "recipes/other.yml": b"kind: path\npath: ccstore.yml\n",
    "recipes/locked.yml": DEBIAN.encode(),
    "pins/lock.yml": LOCK.encode(),
    "fragment.config": b"CONFIG_A=y\n",
}
SEEDS = {
    "url": f"kind: url\nurl: [https://a.example/x, mirror://debian/x]\nsha256: {HASH}\nsize: 12\n",
    "git": f"kind: git\nurl: https://a.example/x\ncommit: {'0' * 40}\nsha256: {HASH}\npaths: [a/b]\n",
    "path": "kind: path\npath: ../fragment.config\n",
    "build": "kind: build\ntoolchain: other\ninputs: {a: other}\nscript: |\n  true\noutputs: [dev]\nenv: {A: b}\n",
    "kernel": "kind: kernel\nversion: 1.0.0\ntoolchain: other\nsource:\n  url: [https://a.example/x]\n"
    f"  sha256: {HASH}\nconfig:\n  base: tinyconfig\n  fragments: [../fragment.config]\ntimeout: 5m\n",
    "guest": "kind: guest\nkernel: {image: other, cmdline: quiet}\ntools: other\ninit: [other]\nservices:\n"
    "  - name: a\n    image: other\n    command: [/bin/sh]\n    pid: host\nfiles:\n  - {path: a, contents: b}\n",
    "debian": DEBIAN,
    "lock": "#lock\n" + LOCK,
    "config": "#config\nproject: a\njobs: 2\nmirrors:\n  debian: [https://a.example/]\n",
    "odd": 'kind: "url"\nurl:\n- \'a\'\n- >-\n  b\n- "\\x41"\nsize: 0x10\n',
}
WORDS = {word.encode() for text in SEEDS.values() for word in text.split() if len(word) < 20}
TARGET = Target(
    run,
    seeds={name: text.encode() for name, text in SEEDS.items()},
    tokens=(*sorted(WORDS), b"&a", b"*a", b"<<: ", b"!!python/object:os.system", b"? ", b"- ", b"\\U0001F600",
            b"../../etc/passwd", b"^out", b"extends: fuzz", b"import: [fuzz.yml]", b"{from: fuzz, path: a}",
            b"1" * 40, b"\xef\xbb\xbf", b"---\n"),
)  # fmt: skip
