"""`ccstore doctor`: what this host can and cannot do, and the remedy."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from ccstore.build.locate import find_project
from ccstore.build.remotes import configured_remote
from ccstore.cli.context import json_option, print_json, size, store_option, store_path
from ccstore.codec.engine import engine
from ccstore.codec.recas import Storage
from ccstore.codec.rechannel import Remote
from ccstore.codec.reclient import Client
from ccstore.errors import CcError
from ccstore.executor.probe import findings
from ccstore.fetch.mirrors import Mirrors
from ccstore.recipe.project import ProjectConfig, UserConfig, load_project, load_user_config
from ccstore.store.store import Store

ENOUGH = 12 * 10**9  # bytes: the toolchain, two kernel trees and a build folder


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report; `remedy` is empty when all is well. What is not `required` only limits."""

    name: str
    result: str
    remedy: str = ""
    required: bool = True

    @property
    def word(self) -> str:
        if not self.remedy:
            return "ok"
        return "cannot" if self.required else "without"


@click.command("doctor")
@json_option
@store_option
def command(as_json: bool, store: str | None) -> None:
    """Say what this host can and cannot do, and how to mend what it cannot; exit 6 if it cannot build.

    \b
    ccstore doctor
    """
    root = store_path(store)
    folder, user = find_project("."), load_user_config(os.environ)
    project = load_project(Path(folder), locks=False).config if folder else ProjectConfig()
    service = configured_remote((project, Path(folder)) if folder else None, user, os.environ)
    executor = project.executor or user.executor or "sandbox"
    checks = [
        *_host(),
        *_store(root),
        *_sandbox(root, required=executor == "sandbox"),
        *_docker(required=executor == "docker"),
        *_remote(service, required=executor == "remote"),
        *_mirrors(project, user),
        *_tools(),
    ]
    if as_json:
        print_json(
            [
                {"check": each.name, "state": each.word, "result": each.result, "remedy": each.remedy}
                for each in checks
            ]
        )
    else:
        for each in checks:
            click.echo(f"{each.word:<8}{each.name}: {each.result}")
            if each.remedy:
                click.echo(f"        {each.remedy}")
    failed = [each for each in checks if each.word == "cannot"]
    if failed:
        names = ", ".join(each.name for each in failed)
        raise CcError("sandbox-failed", f"this host cannot build: {names}", hint=failed[0].remedy)


def _host() -> Iterator[Check]:
    machine = platform.machine()
    yield Check(
        "platform",
        f"{sys.platform} {machine}",
        "" if (sys.platform, machine) == ("linux", "x86_64") else "builds run on x86_64 Linux only",
    )
    yield Check("python", platform.python_version())


def _store(root: Path) -> Iterator[Check]:
    try:
        with Store.open(root) as store:
            store.require_writable()
    except CcError as error:
        yield Check("store", f"{root}: {error.message}", error.hint or "--store names another")
        return
    yield Check("store", str(root))
    free = shutil.disk_usage(root).free
    few = f"a kernel build wants {size(ENOUGH)}: free some, or use --store on a larger disk"
    yield Check("disk", f"{size(free)} free", few if free < ENOUGH else "", required=False)


def _sandbox(root: Path, *, required: bool) -> Iterator[Check]:
    try:
        found = findings(root)
    except OSError:  # the store's own line says why nothing can be tried there
        found = findings(Path(tempfile.gettempdir()))
    for finding in found:
        yield Check(finding.name, finding.problem or "can be used", finding.remedy, required)


def _docker(*, required: bool) -> Iterator[Check]:
    try:
        with engine(os.environ) as client:
            version = client.version()
    except CcError as error:
        yield Check("docker", f"{error.message}: needed for `--executor docker`", error.hint or "", required)
        return
    yield Check("docker", f"{version['Version']} ({version['Os']}/{version['Arch']})")


def _remote(service: Remote | None, *, required: bool) -> Iterator[Check]:
    if service is None:
        if required:
            yield Check("remote", "no service is configured", "`remote: {url: …}` in recipes/ccstore.yml")
        return
    try:
        with Client(service) as client:
            Storage(client)
    except CcError as error:
        yield Check("remote", error.message, error.hint or "", required)
        return
    yield Check("remote", service.url)


def _mirrors(project: ProjectConfig, user: UserConfig) -> Iterator[Check]:
    mirrors = Mirrors.from_host(os.environ, user.mirrors, project.mirrors)
    yield Check("mirror debian", ", ".join(mirrors.bases("debian")))


def _tools() -> Iterator[Check]:
    for tool, use in (("git", "`git` sources"), ("qemu-system-x86_64", "booting what was built")):
        path = shutil.which(tool)
        yield Check(
            tool, path or f"missing: needed for {use}", "" if path else f"install {tool}", required=False
        )
