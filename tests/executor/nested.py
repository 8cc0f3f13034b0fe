"""Tests in namespaces of their own, where any user may mount and change settings."""

from __future__ import annotations

from collections.abc import Callable

from tests.namespaces import mount_tmpfs, unshare

from .conftest import in_child

__all__ = ["in_namespaces", "mount_tmpfs"]


def in_namespaces(action: Callable[[], object]) -> None:
    """Runs `action` in a child with its own user and mount namespaces; an assertion in it fails the test."""
    in_child(action, unshare)
