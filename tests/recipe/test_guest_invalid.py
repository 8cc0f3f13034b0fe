"""Descriptions of guests that are wrong: each error has its code, its place and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccstore.errors import CcError
from ccstore.recipe.lower import lower
from ccstore.recipe.project import load_project
from tests.recipe import sample
from tests.recipe.guest_sample import DIGEST, EVERY_FIELD, GUEST, error_of, write

AGENT = "    command: [agent]\n"
CAPABILITIES = "[CAP_SYS_ADMIN]"

# what is replaced by what, then the code, the place and a word of the message or hint
WRONG = {
    "unknown key": ("services:", "servces:", "recipe-invalid", "17:1", "services"),
    "unknown key of a container": (AGENT, "    comand: [x]\n", "recipe-invalid", "20:5", "command"),
    "unknown key of a file": ("    contents:", "    content:", "recipe-invalid", "25:5", "contents"),
    "two containers of one name": (
        "  - name: agent\n",
        "  - {name: agent, image: busybox, command: [x]}\n  - name: agent\n",
        "recipe-invalid",
        "19:11",
        "'agent'",
    ),
    "two volumes of one name": ("  - name: fixed", "  - name: data", "recipe-invalid", "11:11", "'data'"),
    "a name with a slash": ("- name: agent", "- name: a/b", "recipe-invalid", "18:11", "letters"),
    "a capability that is none": (
        CAPABILITIES,
        "[CAP_SYS_ADMINISTRATOR]",
        "recipe-invalid",
        "21:19",
        "did you mean CAP_SYS_ADMIN?",
    ),
    "a capability without its prefix": (
        CAPABILITIES,
        "[SYS_ADMIN]",
        "recipe-invalid",
        "21:19",
        "CAP_SYS_ADMIN",
    ),
    "all and others": (CAPABILITIES, "[all, CAP_KILL]", "recipe-invalid", "21:19", "alone"),
    "a read-only volume that is written to": (
        "fixed:/fixed:ro",
        "fixed:/fixed",
        "recipe-invalid",
        "22:40",
        "read-only",
    ),
    "a volume that there is not": ("data:/data", "dato:/data", "recipe-invalid", "22:26", "'dato'"),
    "a bind of one path": ('"/dev:/dev"', '"/dev"', "recipe-invalid", "22:13", "/source:/destination"),
    "a bind that climbs": ('"/dev:/dev"', '"/dev/../x:/dev"', "recipe-invalid", "22:13", ".."),
    "a mode that is no mode": ('"0644"', '"0689"', "recipe-invalid", "26:11", "octal"),
    "a mode in words": ('"0644"', "rw-r--r--", "recipe-invalid", "26:11", "octal"),
    "a file that climbs": ("path: etc/motd", "path: ../etc/motd", "recipe-invalid", "24:11", ".."),
    "a file at the root": ("path: etc/motd", "path: /", "recipe-invalid", "24:11", "below the root"),
    "a file with two contents": (
        '    mode: "0644"',
        "    symlink: x",
        "recipe-invalid",
        "24:5",
        "contents and symlink",
    ),
    "a file with nothing in it": ("    contents: hello\n", "", "recipe-invalid", "24:5", "one of"),
    "a source outside by name": (
        "../files/agent.conf",
        "/etc/passwd",
        "recipe-outside",
        "28:13",
        "into the project",
    ),
    "a source that climbs": (
        "../files/agent.conf",
        "../../agent.conf",
        "recipe-outside",
        "28:13",
        "into the project",
    ),
    "a source at home": ("../files/agent.conf", "~/.ssh/id_rsa.pub", "recipe-outside", "28:13", "~/.ssh"),
    "a source that is missing": ("agent.conf\n", "agnet.conf\n", "file-missing", "28:13", "agent.conf"),
    "a recipe that there is not": (
        "    image: busybox\n    command: [agent]",
        "    image: busybix\n    command: [agent]",
        "recipe-unknown",
        "19:12",
        "busybox",
    ),
    "an init that there is not": ("  - pid1", "  - pid2", "recipe-unknown", "7:5", "pid1"),
    "a kernel that there is not": ("image: kernel", "image: kernal", "recipe-unknown", "4:10", "kernel"),
    "an image without a digest": ("  - pid1", "  - alpine:3.21", "image-unpinned", "7:5", "@sha256"),
    "a container's image without a digest": (
        "    image: busybox\n    command: [agent]",
        "    image: docker.io/library/alpine:3.21",
        "image-unpinned",
        "19:12",
        "@sha256",
    ),
    "a digest that is none": ("  - pid1", "  - alpine@sha256:12", "recipe-invalid", "7:5", "sha256"),
    "a layout outside": ("  - pid1", f"  - oci:/images@sha256:{DIGEST}", "recipe-outside", "7:5", "project"),
    "a template": ("  - pid1", '  - "@pkg:../pkg/init"', "unsupported-field", "7:5", "template"),
    "no command": (AGENT, "", "recipe-invalid", "18:11", "command"),
    "a host name without a namespace": (
        AGENT,
        AGENT + "    hostname: x\n",
        "recipe-invalid",
        "21:15",
        "uts: new",
    ),
    "a namespace that is none": (AGENT, AGENT + "    pid: private\n", "recipe-invalid", "21:10", "host"),
    "users without a namespace": (
        AGENT,
        AGENT + "    userns: new\n",
        "recipe-invalid",
        "21:13",
        "uidMappings",
    ),
    "users with the guest's network": (
        AGENT,
        AGENT
        + "    userns: new\n    uidMappings: [{hostID: 1, containerID: 0, size: 9}]\n"
        + "    gidMappings: [{hostID: 1, containerID: 0, size: 9}]\n",
        "recipe-invalid",
        "21:13",
        "net: new",
    ),
    "a limit that is none": (
        AGENT,
        AGENT + '    rlimits: ["files,1,2"]\n',
        "recipe-invalid",
        "21:15",
        "nofile",
    ),
    "a soft limit above the hard one": (
        AGENT,
        AGENT + '    rlimits: ["nofile,3,2"]\n',
        "recipe-invalid",
        "21:15",
        "above",
    ),
    "a mount without a type": (
        AGENT,
        AGENT + "    mounts: [{source: x}]\n",
        "recipe-invalid",
        "21:14",
        "type",
    ),
    "a device without a mode": (
        AGENT,
        AGENT + "    devices: [{path: /dev/x, type: c}]\n",
        "recipe-invalid",
        "21:15",
        "mode",
    ),
    "a space that init cannot read": (
        AGENT,
        AGENT + '    runtime: {mkdir: ["/run/a b"]}\n',
        "recipe-invalid",
        "21:14",
        "space",
    ),
    "on-exit outside of services": (
        "command: [echo, hello]",
        "on-exit: restart\n    command: [x]",
        "recipe-invalid",
        "16:14",
        "services",
    ),
    "an on-exit that is none": (
        AGENT,
        AGENT + "    on-exit: reboot\n",
        "recipe-invalid",
        "21:14",
        "poweroff",
    ),
    "one size, wrong for every format": (
        "kind: guest",
        "kind: guest\nmax-size: 500KB",
        "recipe-invalid",
        "2:11",
        "500kB",
    ),
    "a size that is none": ("kind: guest", "kind: guest\nmax-size: small", "recipe-invalid", "2:11", "6MB"),
    "a size of a format that is none": (
        "kind: guest",
        "kind: guest\nmax-size: {iso: 6MB}",
        "recipe-invalid",
        "2:12",
        "vmlinux",
    ),
    "a format that is none": (
        "kind: guest",
        "kind: guest\nformat: iso",
        "recipe-invalid",
        "2:9",
        "kernel+squashfs",
    ),
    "verity for another format": (
        "kind: guest",
        "kind: guest\nverity: true\nformat: vmlinux+pmem",
        "recipe-invalid",
        "1:1",
        "vmlinux+erofs+verity",
    ),
    "a guest without a kernel": (
        "kernel:\n  image: kernel\n  cmdline: console=ttyS0 panic=1\n",
        "",
        "recipe-invalid",
        "1:1",
        "needs a kernel",
    ),
    "a device node that is none": (
        "kind: guest",
        "kind: guest\nattributes: [{path: dev/x, device: c1:3}]",
        "recipe-invalid",
        "2:36",
        "MAJOR",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_guest(case: str, tmp_path: Path) -> None:
    old, new, code, place, word = WRONG[case]
    assert old in GUEST
    head, _, tail = GUEST.rpartition(old) if old.startswith("agent.conf") else GUEST.partition(old)
    error = error_of(write(tmp_path / "project", head + new + tail))
    assert (error.code, error.where) == (code, f"recipes/vm.yml:{place}"), error
    assert word in f"{error.message} {error.hint}"
    assert error.exit_status == 2
    assert "^" in error.details[1]


# each with what is added to a service, and the field that is named
UNSUPPORTED = {
    "runtime: {interfaces: [{name: wg0, add: wireguard}]}": "services.0.runtime.interfaces",
    "resources: {devices: [{allow: true, type: b}, {allow: false, type: c}]}": "services.0.resources.devices.1",
    "runtime: {namespace: other}": "services.0.runtime.namespace",
    "resources: {memory: {kernel: 1}}": "services.0.resources.memory.kernel",
    "resources: {memory: {kernelTCP: 1}}": "services.0.resources.memory.kernelTCP",
    "resources: {memory: {swappiness: 1}}": "services.0.resources.memory.swappiness",
    "resources: {memory: {disableOOMKiller: true}}": "services.0.resources.memory.disableOOMKiller",
    "resources: {cpu: {realtimeRuntime: 1}}": "services.0.resources.cpu.realtimeRuntime",
    "resources: {cpu: {realtimePeriod: 1}}": "services.0.resources.cpu.realtimePeriod",
    "resources: {blockio: {leafWeight: 10}}": "services.0.resources.blockio.leafWeight",
    "resources: {network: {classID: 1, priorities: [{name: eth0, priority: 1}]}}": "services.0.resources.network",
    "mounts: [{type: bind, source: /a, destination: /a, uidmappings: [{hostID: 1, containerID: 0, size: 1}]}]": (
        "services.0.mounts.0.uidmappings"
    ),
    "mounts: [{type: bind, source: /a, destination: /a, gidmappings: [{hostID: 1, containerID: 0, size: 1}]}]": (
        "services.0.mounts.0.gidmappings"
    ),
}


@pytest.mark.parametrize("text", UNSUPPORTED)
def test_what_is_valid_in_linuxkit_and_not_supported_is_named(text: str, tmp_path: Path) -> None:
    error = error_of(write(tmp_path, GUEST.replace(AGENT, f"{AGENT}    {text}\n")))
    assert error.code == "unsupported-field"
    assert error.where is not None
    assert error.where.startswith("recipes/vm.yml:21:")
    assert error.message.startswith(f"{UNSUPPORTED[text]} is valid in LinuxKit")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("  image: kernel", "  ucode: intel-ucode.cpio\n  image: kernel", "kernel.ucode"),
        ("  image: kernel", "  tar: kernel.tar\n  image: kernel", "kernel.tar"),
        ("  image: kernel", "  binary: bzImage\n  image: kernel", "kernel.binary"),
        ("  - name: data", "  - name: data\n    platforms: [linux/arm64]", "volumes.0.platforms"),
        ("kind: guest", "kind: guest\ntrust: {org: [linuxkit]}", "trust"),
    ],
)
def test_unsupported_beside_containers(old: str, new: str, named: str, tmp_path: Path) -> None:
    error = error_of(write(tmp_path, GUEST.replace(old, new, 1)))
    assert error.code == "unsupported-field"
    assert error.message.startswith(f"{named} is valid in LinuxKit")


def test_all_of_what_is_wrong_is_listed(tmp_path: Path) -> None:
    text = GUEST.replace("fixed:/fixed:ro", "fixed:/fixed").replace(
        "  - name: hello\n", "  - name: hello\n    on-exit: restart\n"
    )
    error = error_of(write(tmp_path, text))
    assert error.where == "recipes/vm.yml:15:14"
    assert any(line.startswith("recipes/vm.yml:23:40: ") for line in error.details)


def test_a_guest_that_needs_itself(tmp_path: Path) -> None:
    error = error_of(write(tmp_path, GUEST.replace("  - pid1", "  - vm.rootfs")))
    assert (error.code, error.where) == ("recipe-cycle", "recipes/vm.yml:7:5")


PIECES = st.sampled_from(
    [
        *GUEST.splitlines(),
        *EVERY_FIELD.read_text(encoding="utf-8").splitlines(),
        "",
        "  x: [",
        "  - ~",
        "image: 3",
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(PIECES, max_size=14))
def test_no_text_gives_anything_but_an_error_of_ours(lines: list[str], tmp_path: Path) -> None:
    if not (tmp_path / "recipes").exists():
        write(tmp_path)
    sample.put(tmp_path, "recipes/vm.yml", "\n".join(["kind: guest", *lines]))
    try:
        names = set(lower(load_project(tmp_path)).recipes)
    except CcError as error:
        assert error.exit_status == 2  # noqa: PT017
    else:
        assert "vm" in names
