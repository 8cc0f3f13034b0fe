"""Hosts that forbid what a sandbox needs: one error, with the setting that forbids it and the remedy."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.executor import enter, probe
from ccstore.executor.refusal import Refusal, forbidden_by
from ccstore.executor.sandbox import Sandbox
from ccstore.ports import Cancel

from .conftest import Builds, PlainTree, unheard
from .nested import in_namespaces, mount_tmpfs


def refused(builds: Builds, root: PlainTree | None = None, **options: object) -> CcError:
    request = builds.request("true", **options)
    if root is not None:
        request = type(request)(**{**{f: getattr(request, f) for f in request.__slots__}, "root": root})
    with pytest.raises(CcError) as caught:
        Sandbox().build(request, unheard, Cancel())
    assert list(request.scratch.iterdir()) == list(request.staging.iterdir()) == []
    return caught.value


def test_this_host_can(builds: Builds) -> None:
    found = probe.findings(builds.place)
    assert [each.name for each in found if not each.ok] == []
    assert len(found) == 3
    assert [each.name for each in builds.place.iterdir()] == []


def test_user_namespaces_are_used_up(builds: Builds) -> None:
    def action() -> None:
        enter.write("/proc/sys/user/max_user_namespaces", "0")
        error = refused(builds)
        assert error.code == "no-userns"
        assert "user.max_user_namespaces is 0" in error.message
        assert "sysctl -w user.max_user_namespaces=" in (error.hint or "")
        assert [each.ok for each in probe.findings(builds.place)] == [False] * 3

    in_namespaces(action)


def test_proc_is_masked(builds: Builds) -> None:
    """As container runtimes do it: a mount over a part of /proc, which a new /proc would uncover."""

    def action() -> None:
        mount_tmpfs(Path("/proc/sys"))
        error = refused(builds)
        assert error.code == "no-userns"
        assert "/proc" in error.message
        assert "systempaths=unconfined" in (error.hint or "")
        assert [each.ok for each in probe.findings(builds.place)] == [True, False, True]

    in_namespaces(action)


def test_a_toolchain_without_its_mount_points(builds: Builds) -> None:
    error = refused(builds, root=builds.tree("bare", {"bin/x": ""}))
    assert error.code == "sandbox-failed"
    assert "/in" in error.message
    assert "folders in, build, out" in (error.hint or "")


def test_an_input_that_is_not_there(builds: Builds) -> None:
    error = refused(builds, inputs={"gone": PlainTree(builds.place / "gone")})
    assert error.code == "sandbox-failed"
    assert "/in/gone" in error.message


def test_no_overlay_across_file_systems(builds: Builds) -> None:
    def action() -> None:
        tree = builds.tree("source", {"a": ""})
        request = builds.request("true", inputs={"source": tree}, overlays={"out": "source"})
        mount_tmpfs(request.scratch)
        with pytest.raises(CcError) as caught:
            Sandbox().build(request, unheard, Cancel())
        assert caught.value.code == "sandbox-failed"
        assert "overlay" in caught.value.message
        assert caught.value.hint

    in_namespaces(action)


def write(top: Path, path: str, text: str) -> None:
    (top / path).parent.mkdir(parents=True, exist_ok=True)
    (top / path).write_text(text)


@pytest.mark.parametrize(
    ("path", "text", "named"),
    [
        ("sys/user/max_user_namespaces", "0\n", "user.max_user_namespaces"),
        ("sys/user/max_net_namespaces", "0\n", "user.max_net_namespaces"),
        ("sys/kernel/unprivileged_userns_clone", "0\n", "kernel.unprivileged_userns_clone"),
        ("sys/kernel/apparmor_restrict_unprivileged_userns", "1\n", "apparmor_restrict_unprivileged_userns"),
        ("self/status", "Name:\tx\nSeccomp:\t2\n", "seccomp"),
        ("self/status", "Name:\tx\nSeccomp:\t0\n", "security policy"),
    ],
)
def test_the_setting_is_named(tmp_path: Path, path: str, text: str, named: str) -> None:
    for setting in ("sys/user/max_user_namespaces", "sys/user/max_net_namespaces"):
        write(tmp_path, setting, "9000\n")
    write(tmp_path, "self/ns/user", "")
    write(tmp_path, path, text)
    finding = forbidden_by(tmp_path)
    assert named in finding.problem
    assert finding.remedy


def test_a_kernel_without_user_namespaces(tmp_path: Path) -> None:
    assert "CONFIG_USER_NS" in forbidden_by(tmp_path).problem


@pytest.mark.parametrize(
    ("stage", "step", "number", "code"),
    [
        ("namespaces", "unshare", errno.EPERM, "no-userns"),
        ("namespaces", "unshare", errno.ENOSPC, "no-userns"),
        ("namespaces", "unshare", errno.ENOMEM, "sandbox-failed"),
        ("operation", "mount -t proc -o defaults proc /proc", errno.EPERM, "no-userns"),
        ("operation", "write 3 characters to /in/x", errno.ENOSPC, "disk-full"),
        ("operation", "mount -t overlay x", errno.EINVAL, "sandbox-failed"),
        ("privileges", "drop capabilities", errno.EPERM, "sandbox-failed"),
        ("internal", "KeyError('x')", None, "sandbox-failed"),
    ],
)
def test_each_refusal_has_one_code(stage: str, step: str, number: int | None, code: str) -> None:
    error = Refusal(stage, step, number).error("kernel.tree")
    assert (error.code, error.where) == (code, "kernel.tree")
    assert error.hint


def test_a_python_that_cannot_run(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    use: Callable[[str, str], None] = lambda name, value: monkeypatch.setattr(f"sys.{name}", value)  # noqa: E731
    use("executable", "")
    monkeypatch.setenv("PATH", str(builds.place))
    error = refused(builds)
    assert error.code == "tool-missing"
