"""What `ccstore run` makes of its words, without booting: command lines and configurations (golden), bad input.

`pytest tests/guest/test_run_words.py --accept` takes over a command line that was meant to change.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ccstore.cli import context
from ccstore.cli.boot import Targets
from ccstore.cli.rootfs import container_root
from ccstore.errors import CcError
from ccstore.guest import accelerator, child, enter, inside, options, programs, vmm
from ccstore.guest.boot import BootImage, Disk, parse_size
from ccstore.guest.console import KEPT, SHOWN, Tail
from ccstore.guest.options import Forward, Options, Share, Volume
from ccstore.guest.qemu import Wiring, arguments, shell_line
from tests.cli.conftest import code
from tests.conftest import Shell, write
from tests.guest.bootable import boot_json

GOLDEN = Path(__file__).with_name("golden")
FOLDER = Path("/objects/g")
MIB = 1 << 20

INITRD = BootImage(
    "g",
    "vmlinux+initrd",
    FOLDER / "vmlinux",
    FOLDER / "initrd.img",
    None,
    "console=hvc0 quiet",
    "q35",
    64 * MIB,
    None,
)
BLOCK = replace(
    INITRD, format="vmlinux+erofs", initrd=None, disk=Disk(FOLDER / "root.img", "virtio-blk", 8 * MIB)
)
PMEM = replace(
    INITRD,
    format="vmlinux+pmem",
    initrd=None,
    disk=Disk(FOLDER / "root.img", "pmem", 128 * MIB),
    machine="q35",
)
PLAIN = Options("q35", "kvm", 64 * MIB)
FULL = Options(
    machine="q35",
    accelerator="tcg",
    memory=256 * MIB,
    cpus=2,
    append="debug console=ttyS0",
    publish=(Forward("127.0.0.1", 8080, 80, "tcp"), Forward("0.0.0.0", 53, 53, "udp")),
    shares=(Share(Path("/a,b"), "work"), Share(Path("/c"), "c", read_only=True)),
    volumes=(Volume(Path("/v,1.img")), Volume(Path("/v2.img"), read_only=True)),
)
CHANNELS = Wiring(("socket,fd=7", "socket,fd=9"), Share(Path("/share"), "hyperShared"))

COMMANDS = {
    "initrd-q35": (INITRD, PLAIN, Wiring()),
    "initrd-microvm": (INITRD, replace(PLAIN, machine="microvm", network=False), Wiring(monitor=True)),
    "block-microvm": (BLOCK, replace(PLAIN, machine="microvm"), CHANNELS),
    "pmem-q35": (PMEM, PLAIN, CHANNELS),
    "everything-q35": (BLOCK, FULL, CHANNELS),
    "virtiofs-q35": (
        INITRD,
        replace(FULL, virtiofs=True),
        Wiring(servers=("socket,fd=11", "socket,fd=13")),
    ),
    "everything-microvm": (BLOCK, replace(FULL, machine="microvm"), CHANNELS),
}


def same_as_golden(name: str, text: str, accept: bool) -> None:
    path = GOLDEN / name
    if accept:
        write(path, text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_qemu_command_lines(name: str, accept: bool) -> None:
    line = shell_line(["qemu-system-x86_64", *arguments(*COMMANDS[name])])
    same_as_golden(f"qemu-{name}.txt", line + "\n", accept)


OTHERS = {"initrd": (INITRD, PLAIN), "block": (BLOCK, replace(FULL, shares=(), publish=()))}


@pytest.mark.parametrize("name", OTHERS)
def test_firecracker_configurations(name: str, accept: bool) -> None:
    text = vmm.firecracker_config(*OTHERS[name])
    json.loads(text)
    same_as_golden(f"firecracker-{name}.json", text + "\n", accept)


@pytest.mark.parametrize("name", [*OTHERS, "pmem"])
def test_cloud_hypervisor_command_lines(name: str, accept: bool) -> None:
    image, asked = {**OTHERS, "pmem": (PMEM, PLAIN)}[name]
    line = shell_line(["cloud-hypervisor", *vmm.cloud_hypervisor_arguments(image, asked)])
    same_as_golden(f"cloud-hypervisor-{name}.txt", line + "\n", accept)


@pytest.mark.parametrize(
    ("image", "asked"),
    [
        (PMEM, PLAIN),
        (replace(INITRD, kernel=FOLDER / "bzImage"), PLAIN),
        (INITRD, replace(PLAIN, shares=FULL.shares)),
        (INITRD, replace(PLAIN, publish=FULL.publish)),
    ],
)
def test_what_firecracker_cannot_do(image: BootImage, asked: Options) -> None:
    with pytest.raises(CcError) as failure:
        vmm.firecracker_config(image, asked)
    assert failure.value.code == "vmm-unfit"


def test_words_that_are_parsed(tmp_path: Path) -> None:
    assert Forward.parse("8080:80") == Forward("127.0.0.1", 8080, 80, "tcp")
    assert Forward.parse("0.0.0.0:53:5353/udp") == Forward("0.0.0.0", 53, 5353, "udp")
    folder = tmp_path / "a:b"
    folder.mkdir()
    assert Share.parse(str(folder)) == Share(folder, "a:b")
    assert Share.parse(f"{folder}:tag:ro") == Share(folder, "tag", read_only=True)
    assert Volume.parse(f"{write(tmp_path / 'v', '')}:ro") == Volume(tmp_path / "v", read_only=True)
    assert options.parse_duration("1h30m5s") == 5405
    assert options.parse_duration("7") == 7
    assert parse_size("6MB") == 6_000_000
    assert parse_size("1G") == parse_size("1GiB") == 1 << 30


BAD = [
    ("usage", "--publish", "80"),
    ("usage", "--publish", "0:80"),
    ("usage", "--publish", "80:65536"),
    ("usage", "--publish", "1.2.3.256:80:80"),
    ("usage", "--publish", "80:80/sctp"),
    ("file-missing", "--share", "/nowhere/at/all"),
    ("usage", "--share", f"/tmp:{'t' * 32}"),
    ("file-missing", "--volume", "/nowhere.img"),
    ("file-missing", "--volume", "/tmp"),
    ("usage", "--memory", "much"),
    ("usage", "--memory", "1M"),
    ("usage", "--timeout", "soon"),
    ("usage", "--timeout", "0s"),
    ("usage", "--cpus", "0"),
    ("usage", "--machine", "pc"),
    ("usage", "--nonsense", "x"),
]


@pytest.fixture
def project(tmp_path: Path) -> Shell:
    """A project with one bootable folder, whose kernel nobody boots."""
    write(tmp_path / "project/recipes/ccstore.yml", "project: words\n")
    bootable(tmp_path)
    return Shell(tmp_path / "project", tmp_path / "store")


def bootable(root: Path, **fields: Any) -> None:
    write(root / "project/recipes/tiny.yml", "kind: path\npath: ../boot\n")
    write(root / "project/boot/vmlinux", "a kernel")
    write(root / "project/boot/initrd.img", "an initramfs")
    write(root / "project/boot/boot.json", json.dumps(boot_json("tiny") | fields))


@pytest.mark.parametrize(("error", "option", "value"), BAD)
def test_options_that_make_no_sense(project: Shell, error: str, option: str, value: str) -> None:
    done = project.run("run", "tiny", option, value, status=125)
    assert code(done.stderr) == error
    assert done.stdout == ""


def test_options_that_do_not_go_together(project: Shell) -> None:
    for words in (("--no-network", "--publish", "80:80"), ("--share", "/tmp", "--share", "/tmp:tmp:ro")):
        assert code(project.run("run", "tiny", *words, status=125).stderr) == "usage"


def test_what_virtiofs_cannot_do(project: Shell) -> None:
    words = ("run", "tiny", "--virtiofs", "--share")
    assert code(project.run(*words, "/tmp:t:ro", "--machine", "q35", status=125).stderr) == "usage"
    assert code(project.run(*words, "/tmp:t", "--machine", "microvm", status=125).stderr) == "vmm-unfit"


def test_targets_that_cannot_be_booted(project: Shell) -> None:
    write(project.project / "recipes/text.yml", "kind: path\npath: ccstore.yml\n")
    for target, error in (("text", "not-bootable"), ("absent", "recipe-unknown")):
        assert code(project.run("run", target, status=125).stderr) == error


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 2},
        {"kernel": "../vmlinux"},
        {"kernel": None},
        {"kernel": "absent"},
        {"initrd": 7},
        {"disk": "root.img"},
        {"disk": {"file": "vmlinux", "device": "floppy"}},
        {"machine": "pc"},
        {"memory": "little"},
        {"cmdline": None},
    ],
)
def test_a_boot_json_that_is_broken(project: Shell, tmp_path: Path, fields: dict[str, Any]) -> None:
    bootable(tmp_path, **fields)
    assert code(project.run("run", "tiny", status=125).stderr) == "boot-invalid"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--rootfs", "/nowhere"), "file-missing"),
        (("--rootfs", "absent"), "recipe-unknown"),
        (("--rootfs", "oci:/nowhere"), "file-missing"),
        (("--rootfs", "oci:"), "usage"),
        (("--rootfs", "tiny"), "vmm-unfit"),  # which has no agent
        (("--env", "=x", "--rootfs", "/"), "usage"),
        ((), "usage"),
        (("--rootfs", "/", "--workdir", "/no/such/folder"), "file-missing"),
        (("--rootfs", "/", "--user", "no-such-user"), "usage"),
        (("--rootfs", "/", "--user", "root:no-such-group"), "usage"),
        (("--rootfs", "folder", "--user", "nobody"), "usage"),  # which has no /etc/passwd
        (("--rootfs", "folder"), "vmm-unfit"),
    ],
)
def test_containers_that_cannot_be(project: Shell, words: tuple[str, ...], error: str) -> None:
    (project.project / "folder").mkdir()
    assert (
        code(project.run("run", "tiny", *words, "--accel", "tcg", "--", "true", status=125).stderr) == error
    )


def test_the_container_of_a_recipe_is_remembered(project: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = project.project / "recipes/g.yml"
    for name in ("one", "two"):
        write(project.project / f"{name}/file", name)
        write(project.project / f"recipes/{name}.yml", f"kind: path\npath: ../{name}\n")
    monkeypatch.chdir(project.project)

    def found() -> str:
        with Targets(str(project.store)) as targets, container_root("g.tar", targets, None) as root:
            assert root.folder is not None
            return (root.folder / "file").read_text()

    write(recipe, "kind: guest\nkernel: {image: tiny}\ntools: tiny\ncontainer: one\n")
    assert found() == "one"
    with monkeypatch.context() as cached:
        cached.setattr(context, "open_workspace", None)
        assert found() == "one"
    write(project.project / "one/file", "changed")
    assert found() == "changed"
    write(recipe, "kind: guest\nkernel: {image: tiny}\ntools: tiny\ncontainer: two\n")
    assert found() == "two"


def test_links_of_a_container_do_not_lead_out_of_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root / "usr/lib/file", "")
    (root / "lib").symlink_to("/usr/lib")
    (root / "usr/up").symlink_to("../../../lib")
    (root / "loop").symlink_to("loop")
    assert inside.inside(root, "/lib/./file") == root / "usr/lib/file"
    assert inside.inside(root, "usr/up/file") == root / "usr/lib/file"
    assert inside.inside(root, "/../../x") == root / "x"
    inside.check(root, "/usr/up/..", "7", None)
    inside.check(root, "/proc/self", "root", "root")
    with pytest.raises(CcError) as failure:
        inside.check(root, "/loop/x", None, None)
    assert failure.value.code == "file-missing"


@pytest.mark.parametrize(
    "words",
    [("--machine", "q35"), ("--virtiofs",), ("--rootfs", "/"), ("--env", "A=b"), ("-w", "/tmp"), ("-u", "x")],
)
def test_options_that_mean_nothing_to_another_monitor(project: Shell, words: tuple[str, ...]) -> None:
    for monitor in ("firecracker", "cloud-hypervisor"):
        done = project.run("run", "tiny", "--vmm", monitor, "--dry-run", *words, status=125)
        assert code(done.stderr) == "vmm-unfit"
    done = project.run("run", "tiny", "--vmm", "firecracker", "--dry-run", "--accel", "tcg", status=125)
    assert code(done.stderr) == "vmm-unfit"


def test_a_guest_that_gives_up_has_failed() -> None:
    tail = Tail()
    tail.feed(b"[    1.234] init: panic: onboot sysctl failed: status 1; powering off\r\n")
    assert tail.failure == "onboot sysctl failed: status 1"
    assert tail.panic is None


def test_an_agent_finds_its_channels_on_every_command_line(
    project: Shell, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    tool("qemu-system-x86_64")
    bootable(tmp_path, agent="hyperstart")
    line = project.run("run", "tiny", "--accel", "tcg", "--dry-run").stdout
    assert "-chardev null,id=channel0" in line
    assert "name=sh.hyper.channel.1" in line


def test_a_host_without_monitors(project: Shell, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    project.environment["PATH"] = str(tmp_path / "bin")
    for words in ((), ("--vmm", "firecracker"), ("--vmm", "cloud-hypervisor"), ("--qemu", "./absent")):
        assert code(project.run("run", "tiny", *words, status=125).stderr) == "vmm-missing"


@pytest.mark.parametrize(
    ("monitor", "said"), [("firecracker", '"boot_args"'), ("cloud-hypervisor", "--cmdline")]
)
def test_another_monitor_is_started_where_it_is(
    project: Shell, tmp_path: Path, monitor: str, said: str
) -> None:
    program = write(
        tmp_path / "bin" / monitor, '#!/bin/sh\nshift; case $2 in /proc/*) cat "$2";; *) echo "$@";; esac\n'
    )
    program.chmod(0o755)
    project.environment["PATH"] = f"{tmp_path}/bin:{os.environ['PATH']}"
    assert said in project.run("run", "tiny", "--vmm", monitor).stdout


def test_qemu_from_a_tree_of_packages(tmp_path: Path) -> None:
    with pytest.raises(CcError) as failure:
        programs.qemu_of(tmp_path)
    assert failure.value.code == "vmm-missing"
    write(tmp_path / "usr/bin/qemu-system-x86_64", "")
    write(tmp_path / "usr/lib64/ld-linux-x86-64.so.2", "")
    found = programs.qemu_of(tmp_path)
    assert found.prefix[0] == str(tmp_path / "usr/lib64/ld-linux-x86-64.so.2")
    assert found.env == {"QEMU_MODULE_DIR": str(tmp_path / "usr/lib/x86_64-linux-gnu/qemu")}


def test_the_word_for_the_share_is_the_same_on_both_sides() -> None:
    assert child.SHARE == enter.SHARE


def test_why_there_is_no_kvm(tmp_path: Path) -> None:
    assert accelerator.kvm_problem(str(tmp_path / "kvm")) == f"{tmp_path}/kvm: No such file or directory"
    assert accelerator.kvm_problem("/dev/null").startswith("/dev/null: ")


def test_a_trial_runs_code_to_its_end() -> None:
    """Whatever emulates a processor knows `hlt`; an instruction that none has shows that an end is not made up."""
    problem = accelerator.kvm_problem(code=accelerator.HALT)
    if problem and "a trial" not in problem:
        pytest.skip(f"no KVM: {problem}")
    assert problem == ""
    invalid = b"\x0f\x0b"  # ud2, which nothing handles here
    assert accelerator.kvm_problem(code=invalid).endswith("ended in shutdown")


PANIC = (
    b"[    0.61] Run /init\r\n[    0.62][    T1] Kernel panic - not syncing: no way\r\n[    0.63] more\r\n"
)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_panic_is_seen_however_it_comes(step: int) -> None:
    tail = Tail()
    for start in range(0, len(PANIC), step):
        tail.feed(PANIC[start : start + step])
    assert tail.panic == "no way"
    assert not tail.hangs
    assert tail.lines()[0] == "[    0.61] Run /init"
    tail.feed(b"---[ end Kernel panic - not syncing: no way ]---\n")
    assert tail.hangs


def test_words_of_a_panic_in_the_middle_of_a_line_are_none() -> None:
    tail = Tail()
    tail.feed(b"echo Kernel panic - not syncing: x\n# grep 'reboot: System halted'\n")
    assert tail.panic is None
    assert not tail.halted


def test_a_console_is_kept_in_bounded_memory() -> None:
    tail = Tail()
    for number in range(10_000):
        tail.feed(b"\x1b[31mline %d\x1b[0m\r\n" % number)
    tail.feed(b"x" * (2 * KEPT))
    assert len(tail._kept) == KEPT
    assert len(tail.lines()) == 1
    tail.feed(b"\nlast\x1b[K\r\n" * (SHOWN + 5))
    assert tail.lines() == ("last",) * SHOWN


def test_a_command_line_as_json(project: Shell, tool: Callable[[str], str]) -> None:
    tool("qemu-system-x86_64")
    found = json.loads(project.run("run", "tiny", "--dry-run", "--json").stdout)
    assert found[0].endswith("qemu-system-x86_64")
    assert found[found.index("-m") + 1] == "128M"


@pytest.mark.parametrize(("target", "wanted"), [("tiny", "usage"), ("tyni", "recipe-unknown")])
def test_a_command_wants_a_guest_with_a_container(project: Shell, target: str, wanted: str) -> None:
    assert code(project.run("run", target, "--", "true", status=125).stderr) == wanted


def test_the_accelerator_can_be_chosen(project: Shell, tool: Callable[[str], str]) -> None:
    tool("qemu-system-x86_64")
    for accel in ("kvm", "tcg"):
        assert f"-accel {accel}" in project.run("run", "tiny", "--accel", accel, "--dry-run").stdout
