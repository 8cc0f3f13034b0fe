"""The kernel kind from end to end on the tiny Kbuild tree: what is rebuilt, and what is not."""

from __future__ import annotations


from tests.conftest import TinyProject


def test_realize_prints_the_path_and_path_agrees(tiny: TinyProject) -> None:
    [kernel] = tiny.shell.realize("kernel")
    assert (kernel / "vmlinux").read_bytes().startswith(b"\x7fELF")
    assert tiny.shell.path("kernel") == kernel
    assert tiny.shell.realize("kernel") == [kernel]
