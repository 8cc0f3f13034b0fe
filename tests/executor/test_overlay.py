"""Outputs that start out as an input: what changes lands in the upper folder, the input never changes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .conftest import Builds, Done, PlainTree

FILES = {
    "Makefile": "version = 1\n",
    "doc/one": "1\n",
    "doc/two": "2\n",
    "src/a/x.c": "x\n",
    "src/b/y.c": "y\n",
}


def change(builds: Builds, script: str) -> tuple[PlainTree, Done]:
    tree = builds.tree("source", FILES)
    before = snapshot(tree.path)
    done = builds.run(f"cd $out && {{ {script}\n}}", inputs={"source": tree}, overlays={"out": "source"})
    assert snapshot(tree.path) == before
    return tree, done


def snapshot(top: Path) -> dict[str, tuple[int, float, str]]:
    return {
        str(each.relative_to(top)): (
            each.lstat().st_mode,
            each.lstat().st_mtime,
            each.read_text() if each.is_file() else "",
        )
        for each in sorted(top.rglob("*"))
    }


def files_of(upper: Path) -> set[str]:
    return {str(each.relative_to(upper)) for each in upper.rglob("*") if not each.is_dir()}


def is_whiteout(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def test_it_starts_as_the_input(builds: Builds) -> None:
    _, done = change(builds, "find . -type f | sort | xargs cat")
    assert done.log == "version = 1\n1\n2\nx\ny\n"
    assert done.result.overlays == {"out": done.request.staging / "out"}
    assert files_of(done.result.overlays["out"]) == set()


def test_modified_added_and_removed(builds: Builds) -> None:
    script = """
        sed -i s/1/2/ Makefile && echo new > src/a/new.c && rm doc/one && rm -r src/b
        mkdir fresh && echo z > fresh/z && ln -s z fresh/link && chmod 755 src/a/x.c
    """
    _, done = change(builds, script)
    assert done.result.outcome == "built", done.log
    upper = done.result.overlays["out"]
    assert files_of(upper) == {
        *("Makefile", "src/a/new.c", "doc/one", "src/b", "fresh/z", "fresh/link", "src/a/x.c")
    }
    assert (upper / "Makefile").read_text() == "version = 2\n"
    assert is_whiteout(upper / "doc/one")
    assert is_whiteout(upper / "src/b")
    assert (upper / "src/a/x.c").stat().st_mode & 0o777 == 0o755


def test_a_renamed_folder(builds: Builds) -> None:
    _, done = change(builds, "mv doc papers && cat papers/*")
    assert (done.result.outcome, done.log) == ("built", "1\n2\n")
    upper = done.result.overlays["out"]
    assert is_whiteout(upper / "doc")
    assert files_of(upper) == {"doc", "papers/one", "papers/two"}


def test_a_folder_that_is_made_again_is_opaque(builds: Builds) -> None:
    _, done = change(builds, "rm -r doc && mkdir doc && echo 3 > doc/three && ls doc")
    assert (done.result.outcome, done.log) == ("built", "three\n")
    upper = done.result.overlays["out"]
    assert os.getxattr(upper / "doc", "user.overlay.opaque") == b"y"
    assert files_of(upper) == {"doc/three"}


def test_a_patch_applies(builds: Builds) -> None:
    patch = "--- a/src/a/x.c\n+++ b/src/a/x.c\n@@ -1 +1 @@\n-x\n+patched\n"
    tree = builds.tree("source", FILES)
    done = builds.run(
        "cd $out && patch -p1 < /in/.builder/p && cat src/a/x.c",
        inputs={"source": tree},
        overlays={"out": "source"},
        files={"p": patch},
    )
    assert done.log.splitlines()[-1] == "patched"


def test_a_failed_one_leaves_nothing(builds: Builds) -> None:
    _, done = change(builds, "rm -r doc; exit 1")
    assert done.result.outcome == "failed"  # and `run` looked for what is left


def test_beside_an_ordinary_output(builds: Builds) -> None:
    tree = builds.tree("source", FILES)
    done = builds.run(
        "rm $tree/Makefile; echo x > $out; ls -A /out",
        inputs={"source": tree},
        outputs=("out", "tree"),
        overlays={"tree": "source"},
    )
    assert done.log.split() == ["out", "tree"]
    assert done.out() == "x\n"
    assert files_of(done.result.overlays["tree"]) == {"Makefile"}


def test_no_path_of_the_host_in_the_mount_table(builds: Builds) -> None:
    _, done = change(builds, "grep overlay /proc/mounts")
    assert str(builds.place) not in done.log
