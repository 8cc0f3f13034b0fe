"""A build that wants to change the host's kernel, to learn from it, or to be more than it is."""

from __future__ import annotations

from .attacking import Attacks


def test_settings_of_the_kernel_cannot_be_changed(attacks: Attacks) -> None:
    attacks.all_fail("kernel.changes_settings", wanted=28)


def test_nothing_of_the_hosts_memory_keys_and_processes_can_be_read(attacks: Attacks) -> None:
    attacks.all_fail("kernel.learns_secrets", wanted=15)


def test_calls_for_administrators_are_refused(attacks: Attacks) -> None:
    attacks.all_fail("kernel.calls", wanted=29)


def test_privileges_cannot_be_had_again(attacks: Attacks) -> None:
    attacks.all_fail("kernel.privileges", wanted=10)


def test_a_crash_leaves_no_core_and_starts_no_program_of_the_host(attacks: Attacks) -> None:
    """A limit of 1 is what tells the kernel so (core(5)); 0 would start the program."""
    assert attacks.run("kernel.crashes").log == "11 False [] 1\n"


def test_there_is_no_terminal(attacks: Attacks) -> None:
    attacks.all_fail("kernel.terminal", wanted=4)
