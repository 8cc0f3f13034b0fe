"""`realize --distribute`: a kernel's files compiled elsewhere, the same bytes, and never taken for a clean build."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.conftest import Running, assert_whole, built, code, edit, processes_with, wait_until
from tests.cli.test_assistance import CHANGES, a_c_file, key, new_file, patch, replace_line
from tests.cluster.casd import casd as casd
from tests.cluster.grid import grid as grid
from tests.cluster.grid import recc_tree as recc_tree
from tests.cluster.proxy import Traffic, proxy
from tests.conftest import TinyProject, clone_store, tiny_project, write

NOWHERE = "grpc://127.0.0.1:1"
FILES = 6  # of C, in the tiny kernel


def configured(project: TinyProject, url: str, recc: Path | None) -> TinyProject:
    lines = f"project: tiny\nremote: {{url: {json.dumps(url)}}}\n"
    if recc:
        write(project.root / "recipes/recc.yml", f"kind: path\npath: {recc}\n")
        lines += "recc: recc\n"
    write(project.root / "recipes/ccstore.yml", lines)
    return project


def distributed(project: TinyProject, *options: str) -> tuple[str, tuple[int, int, int]]:
    """The kernel's store path, and how many of its files were compiled there, known there, and compiled here."""
    done = project.shell.run("realize", "--distribute", "--json", *options, "kernel")
    [found] = json.loads(done.stdout)
    assert found["purity"] in ("assisted", "incremental")
    said = re.search(r"kernel: (\d+) files .* \((\d+) were known there\)(?:, (\d+) here)?", done.stderr)
    assert said, done.stderr
    there, known, here = (int(each or 0) for each in said.groups())
    return Path(found["path"]).name, (there, known, here)


@pytest.fixture(params=["casd", "grid"])
def service(request: pytest.FixtureRequest) -> str:
    """The URL of a service that executes."""
    found = request.getfixturevalue(request.param)
    return str(found) if request.param == "casd" else str(found.url)


@pytest.fixture
def watched(casd: str) -> Iterator[tuple[str, Traffic]]:
    with proxy(casd) as found:
        yield found


# --- what needs neither a cluster nor recc -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [("--pure",), ("--assist",), ("--executor", "remote"), ("--executor", "docker")],
    ids=" ".join,
)
def test_what_does_not_go_together(realised: TinyProject, options: tuple[str, ...]) -> None:
    configured(realised, NOWHERE, None)
    refused = realised.shell.run("realize", "--distribute", *options, "kernel", status=2)
    assert code(refused.stderr) == "usage"
    assert "--distribute" in refused.stderr


def test_what_it_needs(tiny: TinyProject) -> None:
    shell = tiny.shell
    for lines, status, wanted, remedy in (
        ("", 2, "usage", "--remote URL"),
        (f"remote: {{url: '{NOWHERE}'}}\n", 2, "usage", "`recc: TARGET`"),
        (f"remote: {{url: '{NOWHERE}'}}\nrecc: nothing\n", 2, "recipe-unknown", "ccstore list"),
        (f"remote: {{url: '{NOWHERE}'}}\nrecc: kernel.tree\n", 6, "tool-missing", "package buildbox"),
    ):
        write(tiny.root / "recipes/ccstore.yml", f"project: tiny\n{lines}")
        found = shell.run("realize", "--distribute", "kernel", status=status)
        assert (code(found.stderr), remedy in found.stderr) == (wanted, True), found.stderr


@pytest.fixture
def useless(tmp_path: Path, tiny: TinyProject) -> Path:
    """A root tree whose recc is a program that fails, `false`: the toolchain's own, with its loader and library."""
    toolchain, tree = tiny.shell.path("toolchain"), tmp_path / "useless"
    for name in ("usr/lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu/libc.so.6"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile((toolchain / name).resolve(), tree / name)
        (tree / name).chmod(0o755)
    (tree / "usr/bin").mkdir()
    shutil.copyfile(toolchain / "usr/bin/false", tree / "usr/bin/recc")
    (tree / "usr/bin/recc").chmod(0o755)
    return tree


def test_a_service_that_does_not_answer(tiny: TinyProject, useless: Path) -> None:
    """Is found out before a kernel is begun; other steps do not need it, and are clean."""
    shell = configured(tiny, NOWHERE, useless).shell
    [config] = json.loads(shell.run("realize", "--distribute", "--json", "kernel.config").stdout)
    assert config["purity"] == "clean"
    found = shell.run("realize", "--distribute", "kernel", status=6)
    assert code(found.stderr) == "unreachable"
    assert "build    kernel" in shell.run("realize", "--distribute", "--dry-run", "kernel").stdout
    assert_whole(tiny.shell)


def test_what_recc_cannot_do_is_compiled_here(
    tiny: TinyProject, session_kernel: TinyProject, useless: Path, casd: str
) -> None:
    configured(tiny, casd, useless)
    with (tiny.root / "recipes/ccstore.yml").open("a") as configuration:
        configuration.write("assist: true\n")
    tiny.shell.environment["CI"] = ""
    path, counts = distributed(tiny)
    assert list((tiny.shell.store / "ccache").iterdir()) == []
    assert path == session_kernel.shell.path("kernel").name
    assert counts == (0, 0, FILES)
    # whoever does not ask for it takes it, and it is not pushed
    assert tiny.shell.path("kernel").name == path
    arguments = ("cache", "push", "kernel", "--to", f"file://{tiny.root}/cache", "--key", key(tiny))
    refused = tiny.shell.run(*arguments, status=5)
    assert code(refused.stderr) == "not-clean"
    said = tiny.shell.run("realize", "--pure", "kernel").stderr
    assert "the clean build gave the same bytes as the assisted one" in said
    tiny.shell.run(*arguments)


# --- the real one ---------------------------------------------------------------------------------------------------


def test_the_same_bytes(
    tmp_path: Path,
    tiny: TinyProject,
    session_store: Path,
    session_kernel: TinyProject,
    recc_tree: Path,
    service: str,
) -> None:
    """And the service knows them the next time, in whatever store."""
    edit(tiny.root / "config/20-greeting.config", "CONFIG_REPEAT=2", "CONFIG_REPEAT=2\nCONFIG_DEBUG_INFO=y")
    path, counts = distributed(configured(tiny, service, recc_tree))
    assert counts[0] == FILES
    assert counts[2] == 0
    said = tiny.shell.run("realize", "--pure", "kernel", "kernel^dev").stderr
    assert said.count("the clean build gave the same bytes as the assisted one") == 2
    assert tiny.shell.path("kernel").name == path
    assert_whole(tiny.shell)
    other = tiny_project(tmp_path / "other", clone_store(session_store, tmp_path / "other-store"))
    shutil.copytree(tiny.root / "config", other.root / "config", dirs_exist_ok=True)
    assert distributed(configured(other, service, recc_tree)) == (path, (FILES, FILES, 0))


def test_every_change_gives_the_bytes_of_a_clean_build(tiny: TinyProject, recc_tree: Path, casd: str) -> None:
    configured(tiny, casd, recc_tree)
    distributed(tiny)
    for change in CHANGES:
        change(tiny)
        path, (_, _, here) = distributed(tiny)
        assert here == 0, change
        clean = tiny.shell.run("realize", "--pure", "kernel", "kernel^dev")
        assert built(clean.stderr) == ["kernel"], change
        assert clean.stderr.count("gave the same bytes as the assisted one") == 2, change
        assert tiny.shell.path("kernel").name == path


def test_an_incremental_build_compiles_there_what_a_change_reaches(
    tiny: TinyProject, recc_tree: Path, casd: str
) -> None:
    """The rules of the folder rest on the dependencies that came back from there."""
    configured(tiny, casd, recc_tree)
    distributed(tiny, "--incremental")
    a_c_file(tiny)
    path, counts = distributed(tiny, "--incremental")
    assert (counts[0], counts[2]) == (1, 0)
    assert tiny.shell.run("realize", "--pure", "kernel").stdout.strip().endswith(path)


def test_a_file_that_recc_does_not_see(tiny: TinyProject, recc_tree: Path, casd: str) -> None:
    patch(
        tiny,
        replace_line(
            "include/tiny/kernel.h",
            9,
            "void tiny_hello(void);",
            'void tiny_hello(void); asm(".pushsection .note.x; .incbin \\"/in/tree/README\\"; .popsection");',
        ),
    )
    path, (_, _, here) = distributed(configured(tiny, casd, recc_tree))
    assert here == FILES
    clean = tiny.shell.run("realize", "--pure", "kernel")
    assert "the clean build gave the same bytes as the assisted one" in clean.stderr
    assert clean.stdout.strip().endswith(path)


def test_an_error_is_the_compilers_own_and_said_once(tiny: TinyProject, recc_tree: Path, casd: str) -> None:
    configured(tiny, casd, recc_tree)
    edit(tiny.root / "config/20-greeting.config", "CONFIG_REPEAT=2", "CONFIG_REPEAT=2\nCONFIG_BROKEN=y")
    failed = tiny.shell.run("realize", "--distribute", "--keep-failed", "kernel", status=3)
    assert code(failed.stderr) == "build-failed"
    said = tiny.shell.run("log", "kernel").stdout
    tiny.shell.run("realize", "kernel", status=3)
    messages = errors(tiny.shell.run("log", "kernel").stdout)
    assert errors(said) == messages != []
    [again] = (tiny.shell.store / "failed").glob("*/again.sh")
    done = subprocess.run(["sh", again], capture_output=True, text=True, check=False)
    assert (
        "make: *** " in done.stdout + done.stderr
    )  # in a sandbox without the cluster, which is out of reach by then


def errors(log: str) -> list[str]:
    return [line for line in log.splitlines() if "error:" in line]


def test_a_service_that_is_lost_in_the_middle(
    tiny: TinyProject, session_kernel: TinyProject, recc_tree: Path, casd: str
) -> None:
    with ExitStack() as stack:

        def lose(method: str, answer: bytes) -> bytes:
            if method == "Execute":
                threading.Thread(target=stack.close).start()
            return answer

        url, _ = stack.enter_context(proxy(casd, lose))
        # no other build has these files
        edit(tiny.root / "config/20-greeting.config", "CONFIG_REPEAT=2", "CONFIG_REPEAT=7")
        path, counts = distributed(configured(tiny, url, recc_tree), "--cores", "1")
    assert counts[2] >= FILES - 1
    clean = tiny.shell.run("realize", "--pure", "kernel")
    assert clean.stdout.strip().endswith(path)


def test_a_service_whose_workers_cannot_do_it(
    tiny: TinyProject, session_kernel: TinyProject, recc_tree: Path, watched: tuple[str, Traffic]
) -> None:
    """One that ends every answer too early is asked for ten files, and no more."""

    def refuse(method: str, answer: bytes) -> bytes:
        return b"" if method == "Execute" else answer

    with proxy(watched[0], refuse) as (url, _):
        more = [f"drivers/more{each}" for each in range(8)]
        broken = "obj-$(CONFIG_BROKEN) += drivers/broken.o"
        objects = f"obj-y += {' '.join(f'{each}.o' for each in more)}"
        makefile = f"--- a/Makefile\n+++ b/Makefile\n@@ -50 +50,2 @@\n-{broken}\n+{broken}\n+{objects}\n"
        # a line that no other build has
        files = [new_file(f"{each}.c", f'const char *{each[8:]} = "{time.time_ns()}";') for each in more]
        edit(tiny.root / "config/20-greeting.config", "CONFIG_REPEAT=2", "CONFIG_REPEAT=9")
        patch(tiny, makefile, *files)
        path, counts = distributed(configured(tiny, url, recc_tree), "--cores", "1")
    assert counts == (0, 0, FILES + 8)
    assert 10 <= watched[1].calls["Execute"] <= 30  # for each file at most three times
    assert tiny.shell.run("realize", "--pure", "kernel").stdout.strip().endswith(path)


def test_ctrl_c_leaves_nothing(tiny: TinyProject, recc_tree: Path, casd: str, tmp_path: Path) -> None:
    reached = threading.Event()
    go_on = threading.Event()

    def wait(method: str, answer: bytes) -> bytes:
        if method == "Execute":
            reached.set()
            go_on.wait(60)
        return answer

    edit(tiny.root / "config/20-greeting.config", "CONFIG_REPEAT=2", "CONFIG_REPEAT=8")
    with proxy(casd, wait) as (url, _):
        configured(tiny, url, recc_tree)
        run = Running(tiny.shell, "realize", "--distribute", "kernel")
        try:
            assert reached.wait(120)
            run.signal(signal.SIGINT)
            assert run.wait(60) == 130
        finally:
            go_on.set()
            run.end()
    assert "Traceback" not in run.stderr
    wait_until(lambda: processes_with("/in/.recc/") == [], what="the end of the build")
    assert_whole(tiny.shell)
