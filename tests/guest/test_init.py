"""PID 1 of our own, in guests of 64 MiB that it has to end by itself; what they say on the console decides."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.guest.initramfs import Container, Description, SmallGuest, Transcript

MICROVM = "microvm,acpi=off"  # with ACPI it has no clock to measure the others by, and hangs on a busy host
GUEST_PIDS = ("mount",)  # namespaces of a container that sees the guest's processes
ASK = "kill -TERM 1"

LATE = {999: Container("nine", "echo onboot: nine"), 1000: Container("ten", "echo onboot: ten")}
LIFE = Description(
    onboot=(
        Container("first", "echo onboot: first"),
        Container("second", "sleep 0.3; echo onboot: second"),
    ),
    services=(
        Container("flaky", "echo >>/run/flaky; echo service: flaky; exit 3", ("on-exit restart",)),
        Container("content", "echo service: content", ("on-exit restart-on-failure",)),
        Container(
            "failing", "echo >>/run/failing; echo service: failing; exit 1", ("on-exit restart-on-failure",)
        ),
        Container("once", "echo service: once; exit 1"),
        Container("reader", "echo x 2>/dev/null >/file || echo the root of reader is read-only"),
        Container("writer", "echo x >/file && echo writer wrote: $(ls /file /etc/passwd)", writable=True),
        Container("bye", "exec sleep 1000"),  # another one beside it is onshutdown
        Container("parent", "(sleep 0.2 &); (sleep 0.3; exit 1) & exit 0", namespaces=GUEST_PIDS),
        Container(
            "prepared",
            "readlink /proc/self/ns/net; exec sleep 100",
            (
                "mkdir /run/volume/upper",
                "mkdir /run/volume/work",
                "mount overlay overlay /run/volume/merged "
                "lowerdir=/containers/images/busybox,upperdir=/run/volume/upper,workdir=/run/volume/work",
                "mount tmpfs tmpfs /run/small size=64k,nosuid,ro",
                "cgroup made/before",
                "bind-ns net /run/ns/kept",
            ),
            namespaces=("mount", "pid", "network"),
        ),
        Container(
            "keeper",
            "(sleep 0.2 &); exec sleep 100",
            ("bind-ns net /run/ns/keeper",),
            namespaces=("mount", "network"),
        ),
        Container(
            "checker",
            "until [ $(cat /run/flaky | wc -l) -ge 4 ] && [ $(cat /run/failing | wc -l) -ge 4 ]; do sleep 0.1; done;"
            "echo zombies: $(grep -ls '^State:.Z' /proc/[0-9]*/status | wc -l);"
            "echo made: $(ls -d /run/volume/merged/bin /sys/fs/cgroup/made/before);"
            "grep ' /run/small ' /proc/mounts;"
            "echo kept $(nsenter --net=/run/ns/kept readlink /proc/self/ns/net);"
            f"echo host: $(hostname) $(ip -o addr show lo | grep -o 127.0.0.1); {ASK}",
            namespaces=GUEST_PIDS,
        ),
    ),
    onshutdown=(
        Container("bye", "sleep 0.3; echo onshutdown: bye"),
        Container("last", "echo onshutdown: last"),
    ),
    files={"etc/hostname": b"tested\n"}
    | {path: content for number, each in LATE.items() for path, content in each.files("onboot", number)},
)


@pytest.fixture(scope="module")
def life(small_guest: SmallGuest, tmp_path_factory: pytest.TempPathFactory) -> Transcript:
    """An ordinary life, from the first container to the last."""
    return small_guest.run(LIFE, tmp_path_factory.mktemp("life") / "initramfs")


def test_containers_run_in_order(life: Transcript) -> None:
    order = [
        "init: onboot first",
        "onboot: first",
        "init: onboot second",
        "onboot: second",
        "onboot: nine",
        "onboot: ten",
        "init: service flaky",
    ]
    order += ["init: services started", "init: signal 15: powering off", "init: onshutdown bye"]
    order += ["onshutdown: bye", "init: onshutdown last", "onshutdown: last", "init: power off"]
    places = [life.at(each) for each in order]
    assert places == sorted(places)


def test_services_are_restarted_as_told_and_ever_later(life: Transcript) -> None:
    for wait in ("0.25", "0.50", "1.00"):
        life.at(f"init: service flaky: exit status 3; starting again in {wait} s")
    assert life.told("service: flaky") >= 4
    assert life.told("service: failing") >= 4
    assert life.told("service: content") == 1
    assert life.told("service: once") == 1
    life.at("init: service content: exit status 0\n")
    life.at("init: service once: exit status 1\n")


def test_every_line_has_its_time(life: Transcript) -> None:
    lines = re.findall(r"^.*\binit: .*$", life.console, re.MULTILINE)
    stamps = [re.match(r"\[ *(\d+\.\d{3})\] init: ", line) for line in lines]
    assert all(stamps), lines
    times = [float(each[1]) for each in stamps if each]
    assert times == sorted(times)


def test_orphans_are_reaped(life: Transcript) -> None:
    life.at("init: service parent: exit status 0")
    life.at("\nzombies: 0\n")


def test_a_root_is_read_only_unless_it_has_an_overlay(life: Transcript) -> None:
    life.at("the root of reader is read-only")
    life.at("\nwriter wrote: /etc/passwd /file\n")


def test_what_a_container_needs_is_made_before_it_starts(life: Transcript) -> None:
    life.at("\nmade: /run/volume/merged/bin /sys/fs/cgroup/made/before\n")
    life.at("tmpfs /run/small tmpfs ro,nosuid,relatime,size=64k 0 0")


def test_a_namespace_outlives_what_it_was_made_for(life: Transcript) -> None:
    names = re.findall(r"^(?:kept )?(net:\[\d+\])$", life.console, re.MULTILINE)
    assert len(names) == 2
    assert names[0] == names[1]


def test_the_host_has_a_name_and_a_loopback(life: Transcript) -> None:
    life.at("\nhost: tested 127.0.0.1\n")


@pytest.mark.parametrize("machine", ["q35", MICROVM])
def test_a_service_whose_end_is_the_end(small_guest: SmallGuest, tmp_path: Path, machine: str) -> None:
    service = Container("only", "echo service: only; exit 4", ("on-exit poweroff",))
    never = Container("never", "echo it was asked for that")
    said = small_guest.run(Description(services=(service,)), tmp_path / "initramfs", machine)
    assert said.at("service: only") < said.at("init: service only: exit status 4; powering off")
    said.at("init: power off")
    assert never.script not in said.console


def test_reboot_ends_this_machine_too(small_guest: SmallGuest, tmp_path: Path) -> None:
    asked = Container("asking", "kill -INT 1; sleep 100", namespaces=GUEST_PIDS)
    said = small_guest.run(Description(services=(asked,)), tmp_path / "initramfs")
    assert said.at("init: signal 2: rebooting") < said.at("init: reboot")


def test_a_request_during_onboot_does_not_wait_for_it(small_guest: SmallGuest, tmp_path: Path) -> None:
    endless = Container("endless", f"{ASK}; sleep 1000", namespaces=GUEST_PIDS)
    service = Container("service", "echo too late")
    said = small_guest.run(Description((endless,), (service,)), tmp_path / "initramfs", MICROVM)
    assert "too late" not in said.console
    assert said.time_of("power off") - said.time_of("signal 15") < 10


def test_nothing_starts_after_onboot_failed(small_guest: SmallGuest, tmp_path: Path) -> None:
    onboot = (Container("good", "true"), Container("bad", "exit 3"), Container("never", "echo never"))
    description = Description(
        onboot, (Container("service", "echo never"),), (Container("bye", "echo never"),)
    )
    said = small_guest.run(description, tmp_path / "initramfs", MICROVM)
    assert said.at("init: panic: onboot bad failed: exit status 3; powering off") < said.at("init: power off")
    assert "never" not in said.console


def test_what_cannot_be_prepared_says_why(small_guest: SmallGuest, tmp_path: Path) -> None:
    run = ("colour blue", "mount nothing nothing /run/x -")
    description = Description((Container("odd", "echo never", run),))
    said = small_guest.run(description, tmp_path / "initramfs", MICROVM)
    said.at("init: /containers/onboot/000-odd/run: not understood: colour")
    said.at("init: odd: cannot mount /run/x: No such device")
    said.at("init: panic: onboot odd failed: exit status 125; powering off")
    assert "never" not in said.console.replace("echo never", "")


def test_what_is_too_long_says_so(small_guest: SmallGuest, tmp_path: Path) -> None:
    many = Container("many", "true", ("mkdir /run/many",) * 70_000)
    deep = Container("deep", "echo never", (f"cgroup {'/'.join(['a' * 200] * 21)}",), namespaces=GUEST_PIDS)
    ending = Container("ending", ASK, namespaces=GUEST_PIDS)
    said = small_guest.run(Description(services=(many, deep, ending)), tmp_path / "initramfs", MICROVM)
    said.at("init: /containers/services/000-many/run cannot be read: File too large")
    assert re.search(r"init: deep: cannot make cgroup /sys/fs/cgroup/a+/.*: File name too long", said.console)
    said.at("init: service deep: exit status 125")
    assert "never" not in said.console.replace("echo never", "")


def test_a_child_that_crashes_is_not_the_machine(small_guest: SmallGuest, tmp_path: Path) -> None:
    crashing = Container(
        "crashing",
        "kill -SEGV $PPID; sleep 100",
        ("bind-ns net /run/ns/kept", "on-exit poweroff"),
        namespaces=("mount", "network"),
    )
    said = small_guest.run(Description(services=(crashing,)), tmp_path / "initramfs", MICROVM)
    assert said.at("init: service crashing: killed by signal 11; powering off") < said.at("init: power off")


def test_the_power_button(small_guest: SmallGuest, tmp_path: Path) -> None:
    description = Description(
        services=(Container("service", "exec sleep 1000"),),
        onshutdown=(Container("bye", "echo onshutdown: bye"),),
    )
    said = small_guest.run(description, tmp_path / "initramfs", press_after="init: services started")
    order = ["init: power button: powering off", "\nonshutdown: bye", "init: power off"]
    places = [said.at(each) for each in order]
    assert places == sorted(places)


def test_without_a_runtime(small_guest: SmallGuest, tmp_path: Path) -> None:
    lacking = replace(small_guest, components=small_guest.components[:1])
    description = Description(services=(Container("service", "true", ("on-exit poweroff",)),))
    said = lacking.run(description, tmp_path / "initramfs", MICROVM)
    said.at("init: service: cannot run /usr/bin/crun: No such file or directory")
    said.at("init: service service: exit status 125; powering off")


def test_containers_that_do_not_want_to_end(small_guest: SmallGuest, tmp_path: Path) -> None:
    stubborn = Container("stubborn", "trap '' TERM; while true; do sleep 1; done")
    description = Description(
        services=(stubborn, Container("asking", ASK, namespaces=GUEST_PIDS)),
        onshutdown=(Container("endless", "trap '' TERM; sleep 1000"), Container("never", "echo never")),
    )
    said = small_guest.run(description, tmp_path / "initramfs", MICROVM)
    said.at("init: onshutdown endless: takes too long")
    said.at("init: service stubborn: killed by signal 9")
    assert "never" not in said.console.replace("echo never", "")
    assert said.time_of("power off") - said.time_of("signal 15") < 25


def test_nobody_reads_the_console(small_guest: SmallGuest, tmp_path: Path) -> None:
    flood = Container("flood", "yes 'a line of many, to fill what holds them until somebody reads'")
    ending = Container("ending", f"sleep 4; {ASK}; sleep 100", namespaces=GUEST_PIDS)
    description = Description(services=(flood, ending))
    said = small_guest.run(description, tmp_path / "initramfs", read=False)
    assert said.told("a line of many, to fill what holds them until somebody reads") > 100
