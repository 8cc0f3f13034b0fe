"""kernel: the same bytes each time, a guest that boots, and a `dev` output that external modules build against."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders.conftest import TINYLINUX, Built, MakeStep, Step

PLAIN = 'CONFIG_BUS=y\nCONFIG_HELLO=y\nCONFIG_GREETING="it boots"\n'
MODULES = "CONFIG_MODULES=y\nCONFIG_BUS=y\nCONFIG_HELLO=m\n"


class Kernel:
    """Configures and compiles the tiny tree."""

    def __init__(self, configure: Step, compile: Step, folder: Path) -> None:
        self._configure = configure
        self._compile = compile
        self._folder = folder

    def build(
        self,
        fragment: str,
        modules: bool = False,
        localversion: str = "",
        cores: int = 1,
        tree: Path = TINYLINUX,
    ) -> Built:
        path = self._folder / "fragment"
        path.write_text(fragment)
        inputs = {"tree": tree, "fragment-00-x.config": path}
        config = self._configure.run(inputs, {"BASE": "allnoconfig", "VERSION": "1.0.0"}).out
        env = {"MODULES": "01"[modules], "LOCALVERSION": localversion}
        return self._compile.run({"tree": tree, "config": config}, env, cores)


@pytest.fixture
def kernel(configure: Step, compile: Step, tmp_path: Path) -> Kernel:
    return Kernel(configure, compile, tmp_path)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(each.relative_to(folder)): hashlib.sha256(each.read_bytes()).hexdigest()
        for each in sorted(folder.rglob("*"))
        if each.is_file()
    }


def test_out_holds_what_boots_and_what_explains_it(kernel: Kernel) -> None:
    built = kernel.build(PLAIN, localversion="-test")
    assert sorted(digests(built.out)) == ["System.map", "bzImage", "config", "kernel-source-info", "vmlinux"]
    assert "CONFIG_BUS=y" in (built.out / "config").read_text().splitlines()
    info = dict(line.split(": ", 1) for line in (built.out / "kernel-source-info").read_text().splitlines())
    assert (info["name"], info["version"], info["release"]) == ("linux", "1.0.0", "1.0.0-test")
    assert info["config-sha256"] == digests(built.out)["config"]
    assert "  CC      init/main.o" in built.log.splitlines()


def test_two_builds_give_the_same_bytes(kernel: Kernel) -> None:
    one, other = kernel.build(MODULES, modules=True), kernel.build(MODULES, modules=True, cores=4)
    assert digests(one.out.parent) == digests(other.out.parent)


def test_the_guest_boots(kernel: Kernel, tool: Callable[[str], str]) -> None:
    qemu = tool("qemu-system-x86_64")
    vmlinux = kernel.build(PLAIN).out / "vmlinux"
    machine = [
        "-M",
        "microvm,acpi=off",
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-m",
        "64",
        "-no-reboot",
        "-nodefaults",
    ]
    console = ["-no-user-config", "-nographic", "-serial", "stdio"]
    boot = [qemu, *machine, *console, "-kernel", str(vmlinux), "-append", "console=ttyS0"]
    said = subprocess.run(
        boot, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.splitlines() == [
        "Tinylinux 1.0.0 (ccstore@ccstore #1 Thu Jan  1 00:00:01 UTC 1970)",
        "bus: found",
        "it boots",
        "Command line: console=ttyS0",
    ]


def test_dev_has_headers_and_no_place_of_the_build(kernel: Kernel) -> None:
    dev = kernel.build(PLAIN).out.parent / "dev"
    assert (dev / "usr/include/tiny/version.h").is_file()
    assert (dev / "build/include/generated/autoconf.h").is_file()
    assert (dev / "build/arch/x86/include/asm/io.h").is_file()
    assert [each for each in dev.rglob("*") if each.is_symlink() and each.readlink().is_absolute()] == []
    texts = {str(each): each.read_bytes() for each in dev.rglob("*") if each.is_file()}
    assert [name for name, data in texts.items() if b"/build/o" in data or b"/in/tree" in data] == []


OBJTOOL = """
headers_install: $(objtree)/tools/objtool/objtool
$(objtree)/tools/objtool/objtool:
	@mkdir -p $(@D)
	@cd $(@D) && echo 'int main(void) { return 0; }' >main.c && gcc -g -Wl,--build-id -o $@ main.c
"""


def test_a_program_of_dev_names_no_place_of_the_build(kernel: Kernel, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(TINYLINUX, tree)
    with (tree / "Makefile").open("a") as makefile:
        makefile.write(OBJTOOL)
    program = kernel.build(PLAIN, tree=tree).out.parent / "dev/build/tools/objtool/objtool"
    data = program.read_bytes()
    assert data[:4] == b"\x7fELF"
    assert b"/build/o" not in data
    assert b".note.gnu.build-id" not in data  # a hash of all, that place included


def test_modules_are_installed_stripped_and_without_links(kernel: Kernel) -> None:
    built = kernel.build(MODULES + "CONFIG_DEBUG_INFO=y\n", modules=True)
    folder = built.out / "lib/modules/1.0.0"
    assert sorted(digests(folder)) == ["kernel/drivers/hello.ko"]
    assert not any(each.is_symlink() for each in folder.iterdir())
    assert b".debug_info" not in (folder / "kernel/drivers/hello.ko").read_bytes()


EXTERNAL = """set -e
mkdir /build/module
cd /build/module
printf 'obj-m += extra.o\\n' >Makefile
printf '#include <tiny/kernel.h>\\nvoid extra(void) { tiny_print("extra"); }\\n' >extra.c
make -C /in/dev/build M=/build/module modules
mkdir /out/out
cp extra.ko /out/out
"""


def test_an_external_module_builds_against_dev(kernel: Kernel, step: MakeStep) -> None:
    dev = kernel.build(MODULES, modules=True).out.parent / "dev"
    built = step("/bin/sh", "-c", EXTERNAL).run({"dev": dev})
    assert (built.out / "extra.ko").read_bytes()[:4] == b"\x7fELF"


def test_symbols_go_to_dev(kernel: Kernel) -> None:
    built = kernel.build(PLAIN)
    assert b".symtab" not in (built.out / "vmlinux").read_bytes()
    assert b".symtab" in (built.out.parent / "dev/vmlinux.debug").read_bytes()


def test_debug_information_goes_to_dev(kernel: Kernel) -> None:
    built = kernel.build(PLAIN + "CONFIG_DEBUG_INFO=y\n")
    assert b".debug_info" not in (built.out / "vmlinux").read_bytes()
    assert b".debug_info" in (built.out.parent / "dev/vmlinux.debug").read_bytes()


@pytest.mark.parametrize(
    ("fragment", "modules", "named"),
    [(PLAIN, True, "CONFIG_MODULES=y"), (MODULES, False, "CONFIG_HELLO=m")],
    ids=["no modules in the config", "no modules in the recipe"],
)
def test_recipe_and_config_must_agree_on_modules(
    kernel: Kernel, fragment: str, modules: bool, named: str
) -> None:
    built = kernel.build(fragment, modules=modules)
    assert (built.exit_status, built.report["code"]) == (1, "config-dropped")
    assert named in built.report["message"]


def test_a_file_that_does_not_compile_fails_the_build(kernel: Kernel) -> None:
    built = kernel.build("CONFIG_BROKEN=y\n")
    assert built.exit_status != 0
    assert built.report == {}
    assert "drivers/broken.c:5:" in built.log
