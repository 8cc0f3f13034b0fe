"""Changes of the real kernel, each built incrementally, several of them cleanly: the same bytes. `--full`: an hour.

Each line of output has a change, and what its incremental build or the clean build of all until then costs in CPU
seconds.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Shell, clone_store, write


def replaced(tree: Path, file: str, old: str, new: str) -> str:
    """A patch that puts `new` for the first line `old`."""
    lines = (tree / file).read_text().splitlines()
    at = lines.index(old)
    before, after = lines[max(at - 1, 0) : at], lines[at + 1 : at + 2]
    start, kept, inserted = max(at, 1), len(before) + len(after), new.splitlines()
    changed = [f"-{old}", *(f"+{line}" for line in inserted)]
    hunk = [*(f" {line}" for line in before), *changed, *(f" {line}" for line in after)]
    head = f"@@ -{start},{kept + 1} +{start},{kept + len(inserted)} @@"
    return "\n".join([f"--- a/{file}", f"+++ b/{file}", head, *hunk, ""])


def added(file: str, text: str) -> str:
    lines = text.splitlines()
    return f"--- /dev/null\n+++ b/{file}\n@@ -0,0 +1,{len(lines)} @@\n" + "".join(
        f"+{line}\n" for line in lines
    )


def a_c_file(tree: Path) -> str:
    line = "bool static_key_initialized __read_mostly;"
    return replaced(tree, "init/main.c", line, f'{line}\nconst char changed_by_a_test[] = "changed";')


def a_header(tree: Path) -> str:
    line = "#define	MAX_SCHEDULE_TIMEOUT		LONG_MAX"
    return replaced(tree, "include/linux/sched.h", line, line.replace("LONG_MAX", "(LONG_MAX - 1)"))


def a_makefile_flag(tree: Path) -> str:
    return replaced(tree, "kernel/time/Makefile", "# SPDX-License-Identifier: GPL-2.0",
                    "# SPDX-License-Identifier: GPL-2.0\nccflags-y += -fno-inline-functions-called-once")  # fmt: skip


def a_new_file(tree: Path) -> str:
    first = (tree / "lib/Makefile").read_text().splitlines()[0]
    return added("lib/a_test.c", "int a_test(void);\nint a_test(void)\n{\n\treturn 42;\n}") + replaced(
        tree, "lib/Makefile", first, f"{first}\nobj-y += a_test.o"
    )


OFF = "# CONFIG_HW_RANDOM_VIRTIO is not set\n"  # no header asks for it, or it would be a whole build
Change = tuple[str, Callable[[Path], str] | str]  # a file of the project, and what it becomes; "" for nothing
# each comes to those before it; at the end of each group there is a clean build
CHANGES: list[dict[str, Change]] = [
    {
        "a symbol off": ("change.config", OFF),
        "a C file": ("patches/9000-c-file.patch", a_c_file),
        "a flag in a Makefile": ("patches/9001-flag.patch", a_makefile_flag),
        "a new file": ("patches/9002-new.patch", a_new_file),
    },
    {
        "the symbol on again": ("change.config", "\n"),
        "the file removed": ("patches/9002-new.patch", ""),
        "a header that most files include": ("patches/9003-header.patch", a_header),
    },
]


@pytest.fixture(scope="module")
def project(full: bool, real_kernel: Shell, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """The kernel in a project whose patches and fragments can be changed."""
    if not full:
        pytest.skip("three whole builds of the real kernel and seven smaller ones: pytest --full runs it")
    root = tmp_path_factory.mktemp("incremental")
    shutil.copytree(REPOSITORY / "kernel/patches-6.1", root / "patches")
    (root / "patches/README.md").unlink()
    write(root / "change.config", "")
    write(root / "recipes/ccstore.yml", "project: incremental\n")
    imports = ", ".join(str(REPOSITORY / name) for name in ("recipes/kernel.yml", "recipes/toolchain.yml"))
    write(
        root / "recipes/changed.yml",
        f"import: [{imports}]\nkind: kernel\nextends: kernel\npatches: ../patches\n"
        "config:\n  add: [../change.config]\n",
    )
    return Shell(root, clone_store(real_kernel.store, root / "store"))


@pytest.mark.timeout(4 * 3600)
def test_every_change_gives_the_bytes_of_a_clean_build(project: Shell) -> None:
    project.run("realize", "--incremental", "changed", timeout=3000)  # fills the folder
    tree, before = project.path("kernel.tree"), b""
    for group in CHANGES:
        for name, (file, change) in group.items():
            edit(project.project / file, change if isinstance(change, str) else change(tree))
            found = both(project, "--incremental")
            print(f"{name}: {cpu_seconds(project, 'incremental'):.0f} s of CPU time")
            after = (project.store / "objects" / found[0] / "vmlinux").read_bytes()
            assert after != before, name
            before = after
        assert both(project, "--pure") == found, list(group)
        print(f"all of these, clean: {cpu_seconds(project, 'clean'):.0f} s")


def edit(file: Path, text: str) -> None:
    if not text:
        file.unlink()
    elif file.suffix == ".patch":
        write(file, f"Subject: {file.stem}\n---\n{text}")
    else:
        write(file, text)


def both(project: Shell, option: str) -> list[str]:
    done = project.run("realize", option, "changed", "changed^dev", timeout=3000)
    return [Path(line).name for line in done.stdout.splitlines()]


def cpu_seconds(project: Shell, purity: str) -> float:
    """Of the last build with this purity."""
    lines = (project.store / "history/changed.jsonl").read_text().splitlines()
    runs = [json.loads(line) for line in lines if line]
    return float([run for run in runs if run["purity"] == purity][-1]["cpu_seconds"])
