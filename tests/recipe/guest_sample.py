"""A project with a guest, to be changed by the tests; its components are never built."""

from __future__ import annotations

from pathlib import Path

from ccstore.errors import CcError
from ccstore.model.graph import Build, Graph
from tests.recipe import sample

DIGEST = "9aad4025973feea3f0d978e82ab7db97d8d5ce3f59fcc6b1f316153d66e3a504"
EVERY_FIELD = Path(__file__).parent.parent / "data/guest/every-field.yml"

GUEST = """\
kind: guest
tools: tools
kernel:
  image: kernel
  cmdline: console=ttyS0 panic=1
init:
  - pid1
  - busybox
volumes:
  - name: data
  - name: fixed
    readonly: true
onboot:
  - name: hello
    image: busybox
    command: [echo, hello]
services:
  - name: agent
    image: busybox
    command: [agent]
    capabilities: [CAP_SYS_ADMIN]
    binds: ["/dev:/dev", "data:/data", "fixed:/fixed:ro"]
files:
  - path: etc/motd
    contents: hello
    mode: "0644"
  - path: etc/agent.conf
    source: ../files/agent.conf
"""


def write(root: Path, guest: str = GUEST) -> Path:
    """The sample project with the guest `vm`; its other recipes are files that stand for what would be built."""
    sample.put(root, "recipes/ccstore.yml", "project: guests\n")
    for name in ("tools", "kernel", "pid1", "busybox"):
        sample.put(root, f"recipes/{name}.yml", "kind: path\npath: ../files\n")
    sample.put(root, "files/agent.conf", "level = 3\n")
    sample.put(root, "recipes/vm.yml", guest)
    return root


def error_of(root: Path) -> CcError:
    try:
        sample.graph(root)
    except CcError as error:
        return error
    raise AssertionError("the project is accepted")


def build_of(graph: Graph, name: str) -> Build:
    step = graph.steps[name]
    assert isinstance(step, Build)
    return step
