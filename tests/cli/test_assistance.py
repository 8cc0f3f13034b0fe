"""Compile caches and build folders that are kept: faster, the same bytes, and never taken for a clean build."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Running, assert_whole, built, code, edit, wait_until
from tests.conftest import TinyProject, write

SECOND_PATCH = "patches/0003-more.patch"


def compiled(project: TinyProject) -> list[str]:
    """The objects that the last build of the kernel compiled."""
    log = project.shell.run("log", "kernel").stdout
    return sorted(re.findall(r"^  (?:CC|AS) +(\S+)$", log, re.MULTILINE))


def purity(project: TinyProject, *options: str) -> str:
    [found] = json.loads(project.shell.run("realize", "--json", *options, "kernel").stdout)
    return str(found["purity"])


def patch(project: TinyProject, *hunks: str) -> None:
    write(project.root / SECOND_PATCH, "Subject: more\n---\n" + "".join(hunks))


def replace_line(file: str, line: int, old: str, new: str) -> str:
    return f"--- a/{file}\n+++ b/{file}\n@@ -{line} +{line} @@\n-{old}\n+{new}\n"


def new_file(file: str, *lines: str) -> str:
    return f"--- /dev/null\n+++ b/{file}\n@@ -0,0 +1,{len(lines)} @@\n" + "".join(
        f"+{line}\n" for line in lines
    )


def removed_file(file: str, *lines: str) -> str:
    return f"--- a/{file}\n+++ /dev/null\n@@ -1,{len(lines)} +0,0 @@\n" + "".join(
        f"-{line}\n" for line in lines
    )


def a_c_file(project: TinyProject) -> None:
    edit(
        project.root / "patches/0001-bus-say-that-a-patch-was-here.patch",
        ', patched\\n"',
        ', patched again\\n"',
    )


def a_header(project: TinyProject) -> None:
    """Every file includes it; what one of them becomes is another."""
    aligned = "__attribute__((aligned(64))) void tiny_hello(void);"
    patch(project, replace_line("include/tiny/kernel.h", 9, "void tiny_hello(void);", aligned))


def a_symbol_off(project: TinyProject) -> None:
    edit(project.root / "config/10-devices.config", "CONFIG_NET=y\n", "# CONFIG_NET is not set\n")
    for line in ("CONFIG_NET_DRIVER=y\n", "CONFIG_NET_FAST_PATH=y\n"):
        edit(project.root / "config/10-devices.config", line, "")


def a_symbols_value(project: TinyProject) -> None:
    edit(project.root / "config/20-greeting.config", "CONFIG_REPEAT=2", "CONFIG_REPEAT=3")


def a_makefile_flag(project: TinyProject) -> None:
    patch(
        project,
        replace_line("Makefile", 43, "CFLAGS += $(if $(CONFIG_DEBUG_INFO),-g)", "CFLAGS += -fno-inline"),
    )


def a_new_file(project: TinyProject) -> None:
    """Beside a driver, and before another header of its name in the search path."""
    patch(
        project,
        new_file("drivers/tiny/kernel.h", "#include <../include/tiny/kernel.h>", "#define SHADOWED 1"),
        new_file("include/uapi/tiny/extra.h", "#define TINY_EXTRA 1"),
    )


def a_header_that_is_found_first(project: TinyProject) -> None:
    """`include` comes before `arch/x86/include`: no file that was compiled has changed, and none that it included."""
    patch(
        project,
        new_file("include/asm/io.h", "#include <../arch/x86/include/asm/io.h>", "#define outb(v, p) (void)0"),
    )


def a_removed_file(project: TinyProject) -> None:
    (project.root / "patches/0002-clock-a-driver-that-tells-no-time.patch").unlink()


CHANGES = [
    a_c_file,
    a_header,
    a_symbol_off,
    a_symbols_value,
    a_makefile_flag,
    a_new_file,
    a_header_that_is_found_first,
    a_removed_file,
]


@pytest.fixture
def warm(realised: TinyProject) -> TinyProject:
    """The tiny kernel, realised, with a build folder that was left by an incremental build."""
    edit(realised.root / "config/20-greeting.config", "CONFIG_REPEAT=2", "CONFIG_REPEAT=4")
    assert purity(realised, "--incremental") == "clean"  # the first one begins with an empty folder
    edit(realised.root / "config/20-greeting.config", "CONFIG_REPEAT=4", "CONFIG_REPEAT=2")
    return realised


def test_an_incremental_build_gives_the_bytes_of_a_clean_one(warm: TinyProject) -> None:
    """One change after another; each takes the one before back where both are in the third patch."""
    before = warm.shell.path("kernel")
    for change in CHANGES:
        change(warm)
        done = warm.shell.run("realize", "--incremental", "kernel", "kernel^dev")
        incremental = [Path(line).name for line in done.stdout.splitlines()]
        assert "kernel" in built(done.stderr), change
        clean = warm.shell.run("realize", "kernel", "kernel^dev")
        assert built(clean.stderr) == ["kernel"], change
        assert [Path(line).name for line in clean.stdout.splitlines()] == incremental, change
        assert "the clean build gave the same bytes as the incremental one" in clean.stderr
        after = warm.shell.path("kernel")
        assert (after / "vmlinux").read_bytes() != (before / "vmlinux").read_bytes(), change
        before = after
    assert_whole(warm.shell)


def test_only_what_a_change_reaches_is_compiled(warm: TinyProject) -> None:
    a_c_file(warm)
    assert purity(warm, "--incremental") == "incremental"
    # REPEAT went back from 4 to 2, and every object sees the configuration
    assert "lib/print.o" in compiled(warm)
    a_symbol = warm.root / "patches/0001-bus-say-that-a-patch-was-here.patch"
    edit(a_symbol, "patched again", "patched thrice")
    assert purity(warm, "--incremental") == "incremental"
    assert compiled(warm) == ["drivers/bus.o"]


def test_a_change_that_is_taken_back(warm: TinyProject) -> None:
    """The file is old again, and what was built from the change is newer."""
    before = warm.shell.path("kernel")
    a_c_file(warm)
    warm.shell.run("realize", "--incremental", "kernel")
    edit(warm.root / "patches/0001-bus-say-that-a-patch-was-here.patch", "patched again", "patched")
    shutil.rmtree(warm.shell.store / "evaluations")
    (warm.shell.store / "evaluations").mkdir()
    known = list((warm.shell.store / "realisations").glob("*.json"))
    wanted = {each.name[:64] for each in known if f'"path":"{before.name}"' in each.read_text()}
    for each in known:
        if each.name[:64] in wanted:  # else it is known, and nothing is built
            each.unlink()
    warm.shell.run("verify", "--rebuild-index")
    [again] = json.loads(warm.shell.run("realize", "--incremental", "--json", "kernel").stdout)
    assert again["purity"] == "incremental"
    assert Path(again["path"]) == before
    assert "drivers/bus.o" in compiled(warm)


def test_an_incremental_result_answers_nobody_else(warm: TinyProject) -> None:
    a_c_file(warm)
    [path] = warm.shell.realize("--incremental", "kernel")
    assert warm.shell.run("path", "kernel", status=5).stdout == ""
    assert "build    kernel" in warm.shell.run("plan", "kernel").stdout
    assert warm.shell.run("realize", "--incremental", "kernel").stdout == f"{path}\n"
    pushed = warm.shell.run(
        "cache", "push", "kernel", "--to", f"file://{warm.root}/cache", "--key", key(warm), status=None
    )
    assert code(pushed.stderr) == "not-realised"
    assert built(warm.shell.run("realize", "kernel").stderr) == ["kernel"]
    assert warm.shell.path("kernel") == path


def key(project: TinyProject) -> str:
    file = project.root / "cache.key"
    project.shell.run("cache", "keygen", "test-1", str(file))
    return str(file)


def test_a_build_that_failed_leaves_a_folder_that_the_next_one_can_use(warm: TinyProject) -> None:
    a_c_file(warm)
    edit(warm.root / "config/20-greeting.config", "CONFIG_REPEAT=2", "CONFIG_REPEAT=2\nCONFIG_BROKEN=y")
    failed = warm.shell.run("realize", "--incremental", "kernel", status=3)
    assert code(failed.stderr) == "build-failed"
    edit(warm.root / "config/20-greeting.config", "\nCONFIG_BROKEN=y", "")
    [incremental] = warm.shell.realize("--incremental", "kernel")
    assert warm.shell.realize("kernel") == [incremental]


def stopped_half_way(project: TinyProject) -> Running:
    """An incremental build that waits between the two steps that make vmlinux and System.map."""
    half = "; test ! -e $(objtree)/wait || { touch $(objtree)/linked; sleep 300; }"
    link = "\t@$(LD) -nostdlib --build-id=none -z max-page-size=4096 -T $(srctree)/arch/x86/vmlinux.lds -o $@"
    link += " $(filter %.o,$^)"
    patch(project, replace_line("Makefile", 88, link, link + half))
    a_symbol_off(project)
    built = project.shell.store / "warm/tiny/kernel/build/o"
    (built / "wait").touch()
    running = Running(project.shell, "realize", "--incremental", "kernel")
    wait_until((built / "linked").exists, what="a link")
    (built / "wait").unlink()
    return running


def test_a_build_that_was_killed_begins_anew(warm: TinyProject) -> None:
    """The linked file is newer than all that it is made of, and what goes with it is not made yet."""
    running = stopped_half_way(warm)
    running.signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    done = warm.shell.run("realize", "--incremental", "--json", "kernel")
    assert "kernel: begins with an empty folder: the last build in it was killed" in done.stderr
    [again] = json.loads(done.stdout)
    assert again["purity"] == "clean"
    assert warm.shell.path("kernel") == Path(again["path"])
    assert_whole(warm.shell)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_build_that_was_interrupted_goes_on(warm: TinyProject, number: signal.Signals) -> None:
    running = stopped_half_way(warm)
    running.signal(number)
    assert running.wait() == 130
    assert purity(warm, "--incremental") == "incremental"
    assert compiled(warm) == []
    [incremental] = warm.shell.realize("--incremental", "kernel")
    assert warm.shell.realize("kernel") == [incremental]
    assert_whole(warm.shell)


def test_two_at_once_take_turns(warm: TinyProject, tmp_path: Path) -> None:
    """Two states of one project, in one store, which would be built in one folder."""
    root = tmp_path / "other"
    shutil.copytree(warm.root, root)
    other = TinyProject(root, type(warm.shell)(root, warm.shell.store))
    a_c_file(other)
    a_symbols_value(warm)
    runs = [Running(each.shell, "realize", "--incremental", "kernel") for each in (warm, other)]
    try:
        assert [each.wait(120) for each in runs] == [0, 0]
    finally:
        for each in runs:
            each.end()
    for project, run in zip((warm, other), runs, strict=True):
        assert project.shell.realize("kernel") == [Path(run.stdout.strip())]


def test_another_builder_begins_anew(warm: TinyProject) -> None:
    recipe = warm.root / "recipes/kernel.yml"
    recipe.write_text(recipe.read_text() + "localversion: -other\n")
    assert purity(warm, "--incremental") == "clean"
    assert len(compiled(warm)) > 4


def test_a_purer_result_is_not_replaced_by_another(warm: TinyProject) -> None:
    """The clean build's object was collected; the folder gives something else, and is thrown away."""
    [clean] = warm.shell.realize("kernel")
    warm.shell.run("realize", "kernel.oci")
    warm.shell.run("root", "remove", "tiny/kernel")
    warm.shell.run("gc", "--no-keep-inputs")
    assert not clean.exists()
    folder = warm.shell.store / "warm/tiny/kernel"
    wrong = folder / "build/o/init/main.o"
    wrong.write_bytes(wrong.read_bytes().replace(b"Tinylinux", b"Tinylunux"))
    os.utime(wrong, (time.time() + 3600, time.time() + 3600))
    failed = warm.shell.run("realize", "--incremental", "kernel", status=4)
    assert code(failed.stderr) == "not-reproducible"
    assert "the incremental build gave something else than the clean one" in failed.stderr
    assert not folder.exists()
    assert warm.shell.realize("kernel") == [clean]


def test_a_compile_cache_makes_the_same(tiny: TinyProject, session_kernel: TinyProject) -> None:
    wanted = session_kernel.shell.path("kernel").name
    assert purity(tiny, "--assist") == "assisted"
    assert tiny.shell.path("kernel").name == wanted
    [line] = [each for each in tiny.shell.run("list").stdout.splitlines() if each.startswith("kernel ")]
    assert line.endswith("-kernel  assisted")
    [folder] = (tiny.shell.store / "ccache").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert any(each.is_file() for each in folder.rglob("*R"))  # results
    clean = tiny.shell.run("realize", "--pure", "kernel")
    assert built(clean.stderr) == ["kernel"]
    assert "the clean build gave the same bytes as the assisted one" in clean.stderr
    assert purity(tiny, "--assist") == "clean"  # what is better is not made worse
    assert "ccache" not in tiny.shell.run("log", "kernel").stdout


@pytest.mark.parametrize("change", CHANGES)
def test_a_compile_cache_gives_the_bytes_of_a_clean_build(
    tiny: TinyProject, change: Callable[[TinyProject], None]
) -> None:
    [before] = tiny.shell.realize("--assist", "kernel")
    old = (before / "vmlinux").read_bytes()
    change(tiny)
    [assisted] = tiny.shell.realize("--assist", "kernel")
    assert (assisted / "vmlinux").read_bytes() != old or change is a_new_file
    assert tiny.shell.realize("--pure", "kernel") == [assisted]


SEEN = "/in/tree/lib/seen"
BLIND = {
    "incbin": (rf'__asm__(".data\n.incbin \"{SEEN}\"\n.text");', {"seen": "%d"}),
    "include": (rf'__asm__(".data\n.include \"{SEEN}\"\n.text");', {"seen": ".byte %d"}),
    "a macro of the assembler": (
        rf'__asm__(".data\n.macro read by\n\\by \"{SEEN}\"\n.endm\nread .INCBIN\n.text");',
        {"seen": "%d"},
    ),
    "a header of the system's": (
        '#include "first.h"',
        {"first.h": '#pragma GCC system_header\n#include "seen"', "seen": "int seen = %d;"},
    ),
}


@pytest.mark.parametrize(("line", "files"), BLIND.values(), ids=BLIND)
def test_what_dependencies_do_not_name_is_seen(tiny: TinyProject, line: str, files: dict[str, str]) -> None:
    def kernel(value: int, option: str) -> Path:
        added = (
            new_file(f"lib/{name}", *text.replace("%d", str(value)).split("\n"))
            for name, text in files.items()
        )
        head = "--- a/lib/print.c\n+++ b/lib/print.c\n@@ -1,2 +1,3 @@\n #include <asm/io.h>\n"
        patch(tiny, f"{head}+{line}\n #include <tiny/kernel.h>\n", *added)
        [path] = tiny.shell.realize(option, "kernel")
        return path

    before, after = kernel(1, "--assist"), kernel(2, "--assist")
    assert (after / "vmlinux").read_bytes() != (before / "vmlinux").read_bytes()
    assert kernel(2, "--pure") == after


def test_what_was_compiled_before_is_not_compiled_again(tiny: TinyProject) -> None:
    tiny.shell.run("realize", "--assist", "kernel")
    a_c_file(tiny)
    tiny.shell.run("realize", "--assist", "kernel")
    [folder] = (tiny.shell.store / "ccache").iterdir()
    hits, misses = statistics(tiny, folder)
    objects = len(compiled(tiny))
    assert misses == objects + 1
    assert hits == objects - 1


def statistics(project: TinyProject, folder: Path) -> tuple[int, int]:
    """Hits and misses, by the ccache of the toolchain."""
    import subprocess

    toolchain = project.shell.path("toolchain")
    said = subprocess.run(
        [toolchain / "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "--library-path",
         f"{toolchain}/usr/lib/x86_64-linux-gnu", toolchain / "usr/bin/ccache", "--print-stats"],
        env={"CCACHE_DIR": str(folder)}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    numbers = dict(line.split("\t") for line in said.splitlines())
    hits = int(numbers["direct_cache_hit"]) + int(numbers["preprocessed_cache_hit"])
    return hits, int(numbers["cache_miss"])


def test_a_compile_cache_by_configuration(tiny: TinyProject) -> None:
    write(tiny.root / "recipes/ccstore.yml", "project: tiny\nassist: true\n")
    tiny.shell.environment["CI"] = "true"
    assert purity(tiny) == "clean"
    tiny.shell.environment["CI"] = ""
    edit(tiny.root / "config/20-greeting.config", "CONFIG_REPEAT=2", "CONFIG_REPEAT=3")
    assert purity(tiny, "--no-assist") == "clean"
    edit(tiny.root / "config/20-greeting.config", "CONFIG_REPEAT=3", "CONFIG_REPEAT=4")
    assert purity(tiny) == "assisted"


def test_a_check_is_never_assisted(tiny: TinyProject) -> None:
    """Not even the build that it begins with."""
    write(tiny.root / "recipes/ccstore.yml", "project: tiny\nassist: true\n")
    tiny.shell.environment["CI"] = ""
    tiny.shell.run("check", "--vary", "jobs", "kernel")
    assert list((tiny.shell.store / "ccache").iterdir()) == []
    assert purity(tiny) == "clean"


def test_what_was_assisted_is_not_pushed(tiny: TinyProject) -> None:
    tiny.shell.run("realize", "--assist", "kernel")
    arguments = ("cache", "push", "kernel", "--to", f"file://{tiny.root}/cache", "--key", key(tiny))
    refused = tiny.shell.run(*arguments, status=5)
    assert code(refused.stderr) == "not-clean"
    assert "`ccstore realize --pure kernel`" in refused.stderr
    tiny.shell.run("realize", "--pure", "kernel")
    tiny.shell.run(*arguments)


@pytest.mark.parametrize(
    "options",
    [
        ("--pure", "--assist"),
        ("--pure", "--incremental"),
        ("--incremental", "--keep-failed"),
        ("--incremental", "--executor", "docker"),
        ("--assist", "--executor", "remote"),
    ],
    ids=" ".join,
)
def test_what_does_not_go_together(realised: TinyProject, options: tuple[str, ...]) -> None:
    refused = realised.shell.run("realize", *options, "kernel", status=2)
    assert code(refused.stderr) == "usage"


def test_a_collection_takes_what_is_dead(warm: TinyProject) -> None:
    a_c_file(warm)
    assert purity(warm, "--assist", "--incremental") == "incremental"
    caches, folder = warm.shell.store / "ccache", warm.shell.store / "warm/tiny/kernel"
    warm.shell.run("gc")
    assert len(list(caches.iterdir())) == 1
    assert folder.is_dir()
    long_ago = time.time() - 40 * 24 * 3600
    os.utime(folder, (long_ago, long_ago))
    warm.shell.run("gc", "--dry-run")
    assert folder.is_dir()
    warm.shell.run("gc")
    assert not folder.exists()
    roots = [line.split()[0] for line in warm.shell.run("root", "list").stdout.splitlines()]
    warm.shell.run("root", "remove", *roots)
    warm.shell.run("gc")
    assert list(caches.iterdir()) == []
