"""runtime-config: files that parse with their format's own library, with keys that the runtimes document."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ccstore.errors import CcError
from ccstore.guest.runtimes import Runtime, runtime_config, without_root
from tests.conftest import DATA, TinyProject

DOCUMENTED = json.loads((DATA / "runtime-keys.json").read_text())
CMDLINE = "console=hvc0 panic=1"
PMEM = "root=/dev/pmem0p1 rootflags=dax,data=ordered,errors=remount-ro ro rootfstype=ext4"
VERITY = (
    'dm-mod.create="root,,,ro,0 8 verity 1 /dev/vda1 /dev/vda2 4096 4096 1 0 sha256 ab cd" root=/dev/dm-0 ro'
)
ROOTS = {
    "vmlinux+initrd": ("initrd.img", None, ""),
    "kernel+initrd": ("initrd.img", None, ""),
    "vmlinux+pmem": ("root.img", "pmem", PMEM),
    "vmlinux+erofs": ("root.img", "virtio-blk", "root=/dev/vda ro rootfstype=erofs"),
    "vmlinux+erofs+verity": ("root.img", "virtio-blk", f"{VERITY} rootfstype=erofs"),
    "kernel+squashfs": ("root.img", "virtio-blk", "root=/dev/vda ro rootfstype=squashfs"),
}


def guest(folder: Path, form: str, **more: Any) -> Path:
    """A bootable folder of the format `form`, as far as a configuration looks at it."""
    image, device, root = ROOTS[form]
    kernel = "vmlinux" if form.startswith("vmlinux") else "bzImage"
    folder.mkdir()
    for name in (kernel, image):
        (folder / name).write_bytes(b"\0" * (4 << 20))
    kata = "root_hash=ab,salt=cd,data_blocks=1,data_block_size=4096,hash_block_size=4096"
    boot = {
        "version": 1,
        "name": "vm",
        "format": form,
        "kernel": kernel,
        "initrd": None if device else image,
        "disk": {"file": image, "device": device} if device else None,
        "cmdline": f"{CMDLINE} {root}".strip(),
        "machine": "q35",
        "memory": "512M",
        "agent": "hyperstart",
        "verity": {"kata": kata} if "verity" in form else None,
        **more,
    }
    (folder / "boot.json").write_text(json.dumps(boot))
    return folder


def toml(folder: Path, runtime: Runtime) -> dict[str, Any]:
    [(name, text)] = runtime_config(folder, runtime).files.items()
    assert name == "configuration.toml"
    return tomllib.loads(text)


def tables(value: dict[str, Any], prefix: str = "") -> dict[str, set[str]]:
    """The keys of each table, by the table's dotted name."""
    found: dict[str, set[str]] = {}
    for key, inner in value.items():
        if isinstance(inner, dict):
            found |= tables(inner, f"{prefix}{key}.")
        else:
            found.setdefault(prefix.rstrip("."), set()).add(key)
    return found


@pytest.mark.parametrize(
    ("runtime", "form"),
    [
        ("cc-runtime", "vmlinux+pmem"),
        ("kata", "vmlinux+initrd"),
        ("kata", "kernel+initrd"),
        ("kata", "vmlinux+pmem"),
        ("kata", "vmlinux+erofs"),
        ("kata", "vmlinux+erofs+verity"),
    ],
)
def test_every_key_is_one_that_the_runtime_documents(tmp_path: Path, runtime: Runtime, form: str) -> None:
    value = toml(guest(tmp_path / "vm", form), runtime)
    found = tables(value)
    assert found.keys() == DOCUMENTED[runtime].keys()
    for table, keys in found.items():
        assert keys - set(DOCUMENTED[runtime][table]) == set()
    if runtime == "cc-runtime":
        assert {name: sorted(keys) for name, keys in found.items()} == DOCUMENTED[runtime]


def test_cc_runtime_names_kernel_and_image(tmp_path: Path) -> None:
    folder = guest(tmp_path / "vm", "vmlinux+pmem")
    qemu = toml(folder, "cc-runtime")["hypervisor"]["qemu"]
    assert Path(qemu["kernel"]) == folder / "vmlinux"
    assert Path(qemu["image"]) == folder / "root.img"
    assert (qemu["machine_type"], qemu["default_memory"]) == ("q35", 512)
    assert qemu["kernel_params"] == f"{CMDLINE} {PMEM} init=/sbin/init"


@pytest.mark.parametrize(
    ("form", "root_type", "nvdimm", "parameters"),
    [
        ("vmlinux+pmem", "ext4", True, CMDLINE),
        ("vmlinux+erofs", "erofs", False, f"{CMDLINE} root=/dev/vda ro rootfstype=erofs"),
        ("vmlinux+erofs+verity", "erofs", False, CMDLINE),
    ],
)
def test_kata_and_disks(tmp_path: Path, form: str, root_type: str, nvdimm: bool, parameters: str) -> None:
    folder = guest(tmp_path / "vm", form)
    qemu = toml(folder, "kata")["hypervisor"]["qemu"]
    assert Path(qemu["image"]) == folder / "root.img"
    assert "initrd" not in qemu
    assert (qemu["rootfs_type"], qemu["disable_image_nvdimm"]) == (root_type, not nvdimm)
    assert qemu["kernel_params"] == parameters
    assert ("kernel_verity_params" in qemu) == ("verity" in form)
    if "verity" in form:
        fields = dict(each.split("=") for each in qemu["kernel_verity_params"].split(","))
        assert set(fields) == {"root_hash", "salt", "data_blocks", "data_block_size", "hash_block_size"}


def test_kata_and_an_initrd(tmp_path: Path) -> None:
    folder = guest(tmp_path / "vm", "kernel+initrd", memory="64M")
    config = runtime_config(folder, "kata", "/opt/qemu")
    qemu = tomllib.loads(config.files["configuration.toml"])["hypervisor"]["qemu"]
    assert Path(qemu["initrd"]) == folder / "initrd.img"
    assert Path(qemu["kernel"]) == folder / "bzImage"
    assert "image" not in qemu  # Kata refuses both
    assert qemu["default_memory"] == 256  # with less, Kata takes 2048
    assert (qemu["path"], qemu["valid_hypervisor_paths"]) == ("/opt/qemu", ["/opt/qemu"])
    assert any("kata-agent" in note for note in config.notes)


@pytest.mark.parametrize(
    ("runtime", "form", "more", "named"),
    [
        *(
            (each, form, {}, form)
            for each in ("cc-oci-runtime", "cc-runtime")
            for form in ROOTS
            if "pmem" not in form
        ),
        ("kata", "kernel+squashfs", {}, "kernel+squashfs"),
        ("cc-runtime", "vmlinux+pmem", {"machine": "microvm"}, "microvm"),
        ("cc-oci-runtime", "vmlinux+pmem", {"agent": None}, "hyperstart"),
    ],
)
def test_what_a_runtime_cannot_boot_is_named(
    tmp_path: Path, runtime: Runtime, form: str, more: dict[str, Any], named: str
) -> None:
    with pytest.raises(CcError) as caught:
        runtime_config(guest(tmp_path / "vm", form, **more), runtime)
    assert caught.value.code == "runtime-unfit"
    assert named in caught.value.message
    assert runtime in caught.value.message


def test_what_is_no_guest(tmp_path: Path) -> None:
    with pytest.raises(CcError) as caught:
        runtime_config(tmp_path, "kata")
    assert caught.value.code == "not-bootable"


def test_quoted_parameters_are_one_word() -> None:
    assert without_root(f'a="b root=c" {VERITY} rodata=off quiet') == 'a="b root=c" rodata=off quiet'


# cc-oci-runtime: hypervisor.args is run as the runtime would, its tags filled in


def test_vm_json_names_kernel_and_image(tmp_path: Path) -> None:
    folder = guest(tmp_path / "vm", "vmlinux+pmem")
    files = runtime_config(folder, "cc-oci-runtime").files
    assert list(files) == ["vm.json", "hypervisor.args"]
    assert json.loads(files["vm.json"]) == {
        "vm": {
            "path": "/usr/bin/qemu-system-x86_64",
            "image": str(folder / "root.img"),
            "kernel": {"path": str(folder / "vmlinux"), "parameters": f"{CMDLINE} {PMEM}"},
        }
    }


def filled(files: dict[str, str], folder: Path, qemu: str) -> list[str]:
    """The command line that cc-oci-runtime makes of its files, here under software emulation."""
    vm = json.loads(files["vm.json"])["vm"]
    tags = {
        "@NAME@": "vm",
        "@UUID@": "00000000-0000-4000-8000-000000000000",
        "@IMAGE@": vm["image"],
        "@SIZE@": str(Path(vm["image"]).stat().st_size),
        "@KERNEL@": vm["kernel"]["path"],
        "@KERNEL_PARAMS@": vm["kernel"]["parameters"],
        "@KERNEL_NET_PARAMS@": "ip=::::::vm::off::",
        "@WORKLOAD_DIR@": str(folder),
        "@CONSOLE_DEVICE@": f"socket,path={folder}/console,server=on,wait=off,id=charconsole0,signal=off",
        "@PROCESS_SOCKET@": f"socket,id=procsock,path={folder}/process,server=on,wait=off",
        "@COMMS_SOCKET@": f"{folder}/qmp",
        "@AGENT_CTL_SOCKET@": f"{folder}/control",
        "@AGENT_TTY_SOCKET@": f"{folder}/terminal",
    }
    lines = files["hypervisor.args"].splitlines()
    for tag, text in tags.items():
        lines = [line.replace(tag, text) for line in lines]
    assert not any("@" in line for line in lines)
    emulated = {"q35,accel=kvm,kernel_irqchip=on,nvdimm=on": "q35,accel=tcg,nvdimm=on", "host": "max"}
    return [qemu, *(emulated.get(line, line) for line in lines[1:])]


@contextmanager
def running(command: list[str], monitor: Path) -> Iterator[Callable[[str], Any]]:
    """QEMU with its monitor (QMP): a function that asks it something."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 30
        while not monitor.is_socket():
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            assert time.monotonic() < end
            time.sleep(0.02)
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(30)
            line.connect(str(monitor))
            stream = line.makefile("rw")

            def ask(what: str) -> Any:
                stream.write(json.dumps({"execute": what}) + "\n")
                stream.flush()
                while "return" not in (answer := json.loads(stream.readline())):
                    assert "error" not in answer, answer
                return answer["return"]

            stream.readline()
            ask("qmp_capabilities")
            yield ask
    finally:
        process.kill()
        process.communicate()


def test_qemu_takes_the_arguments(
    tmp_path: Path, session_kernel: TinyProject, tool: Callable[[str], str]
) -> None:
    folder = guest(tmp_path / "vm", "vmlinux+pmem")
    (folder / "vmlinux").write_bytes((session_kernel.shell.path("kernel") / "vmlinux").read_bytes())
    files = dict(runtime_config(folder, "cc-oci-runtime").files)
    before = (folder / "root.img").stat()
    (folder / "root.img").chmod(0o444)
    with running(filled(files, tmp_path, tool("qemu-system-x86_64")), tmp_path / "qmp") as ask:
        assert ask("query-status")["status"] in ("running", "shutdown")
        [memory] = ask("query-memory-devices")
        assert (memory["type"], memory["data"]["size"]) == ("nvdimm", before.st_size)
        ports = {each["label"]: each["filename"] for each in ask("query-chardev")}
    assert str(tmp_path / "control") in ports["charch0"]
    assert str(tmp_path / "terminal") in ports["charch1"]
    assert (folder / "root.img").stat().st_mtime_ns == before.st_mtime_ns
