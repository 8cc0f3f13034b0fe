"""Guests: what their description may say, which steps it becomes, and what enters those."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from ccstore.errors import CcError
from ccstore.model.graph import Build, Fetch, Graph, OciSource, Ref, Step
from ccstore.recipe.document import parse
from ccstore.recipe.guest import FORMATS, GuestRecipe
from ccstore.recipe.invalid import validate
from ccstore.recipe.linuxkit import Container
from ccstore.recipe.schema import json_schema
from ccstore.recipe.values import Base
from tests.conftest import must_be_reachable
from tests.recipe import sample
from tests.recipe.guest_sample import DIGEST, EVERY_FIELD, GUEST, build_of, write
from tests.recipe.test_schema import validate as fits_schema

LINUXKIT = "https://github.com/linuxkit/linuxkit"
# a line of a literal block is commented out at column 0, which ends the block: libyaml reads no further
NOT_YAML = "examples/static-ip.yml"


def description(graph: Graph, guest: str = "vm") -> dict[str, Any]:
    return json.loads(build_of(graph, f"{guest}.rootfs").files["guest.json"])  # type: ignore[no-any-return]


def request(graph: Graph, step: str) -> dict[str, Any]:
    return json.loads(build_of(graph, step).files["image.json"])  # type: ignore[no-any-return]


# steps


def test_the_steps_of_a_guest(tmp_path: Path) -> None:
    graph = sample.graph(write(tmp_path))
    formats = {f"vm.{each}" for each in FORMATS}
    steps = {name for name in graph.steps if name.startswith("vm")}
    assert steps == {"vm.rootfs", *formats}
    assert graph.find("vm") == Ref("vm.vmlinux+initrd")
    rootfs = build_of(graph, "vm.rootfs")
    assert rootfs.inputs["image-00"] == Ref("pid1")
    assert {name: ref.step for name, ref in rootfs.inputs.items()} == {
        "image-00": "pid1",
        "image-01": "busybox",
        "source-01": "./files/agent.conf",
    }
    image = build_of(graph, "vm.vmlinux+erofs+verity")
    assert image.inputs == {"rootfs": Ref("vm.rootfs"), "kernel": Ref("kernel")}
    assert image.object_name == "vm-vmlinux+erofs+verity"


def test_what_the_maker_of_an_image_is_told(tmp_path: Path) -> None:
    text = GUEST + "max-size: {vmlinux+initrd: 6MB}\nagent: hyperstart\nmachine: microvm\nmemory: 64M\n"
    graph = sample.graph(write(tmp_path, text))
    assert request(graph, "vm.vmlinux+initrd") == {
        "name": "vm",
        "format": "vmlinux+initrd",
        "cmdline": "console=ttyS0 panic=1",
        "machine": "microvm",
        "memory": "64M",
        "agent": "hyperstart",
        "maxSize": 6_000_000,
    }
    assert request(graph, "vm.vmlinux+erofs")["maxSize"] is None


def test_one_size_is_for_every_format(tmp_path: Path) -> None:
    graph = sample.graph(write(tmp_path, GUEST + "max-size: 2MiB\n"))
    for each in FORMATS:
        files = build_of(graph, f"vm.{each}").files
        asked = json.loads(files["oci.json" if each == "oci" else "image.json"])
        assert asked["maxSize"] == 2 << 20


def test_a_step_brings_every_script_that_its_builder_wants(tmp_path: Path) -> None:
    graph = sample.graph(write(tmp_path, GUEST.replace("image: kernel", f"image: oci:../x@sha256:{DIGEST}")))
    for step in ("vm.rootfs", "vm.kernel", *(f"vm.{each}" for each in FORMATS)):
        files = build_of(graph, step).files
        wanted = set(re.findall(r"^    import (\w+)", "\n".join(files.values()), re.MULTILINE))
        assert {f"{name}.py" for name in wanted} <= set(files), step


def test_the_format_of_the_recipe_itself(tmp_path: Path) -> None:
    graph = sample.graph(write(tmp_path, GUEST + "verity: true\n"))
    assert graph.find("vm") == Ref("vm.vmlinux+erofs+verity")
    graph = sample.graph(write(tmp_path, GUEST + "format: kernel+squashfs\n"))
    assert graph.find("vm") == Ref("vm.kernel+squashfs")


def test_an_image_by_digest_is_fetched_once(tmp_path: Path) -> None:
    image = f"docker.io/library/alpine:3.21@sha256:{DIGEST}"
    text = GUEST.replace("    image: busybox\n    command: [agent]", f"    image: {image}")
    root = write(tmp_path, text)
    sample.put(root, "recipes/wm.yml", text)
    graph = sample.graph(root)
    step = f"vm.alpine-{DIGEST[:12]}"
    fetch = graph.steps[step]
    assert isinstance(fetch, Fetch)
    assert (fetch.fixed.method, fetch.fixed.sha256.hex) == ("oci", DIGEST)
    assert fetch.source == OciSource(image)
    assert graph.aliases[f"wm.alpine-{DIGEST[:12]}"] == step
    assert Ref(step) in build_of(graph, "vm.rootfs").inputs.values()
    assert description(graph)["services"][0]["image"] == f"alpine@{DIGEST[:12]}"


def test_a_layout_lies_beside_the_recipe(tmp_path: Path) -> None:
    text = GUEST.replace(
        "image: kernel", f"image: oci:../images/linux@sha256:{DIGEST}\n  binary: boot/vmlinuz"
    )
    graph = sample.graph(write(tmp_path, text))
    kernel = build_of(graph, "vm.kernel")
    assert kernel.env["BINARY"] == "boot/vmlinuz"
    fetch = graph.steps[kernel.inputs["image"].step]
    assert isinstance(fetch, Fetch)
    assert isinstance(fetch.source, OciSource)
    assert fetch.source.layout == tmp_path / "images/linux"
    assert build_of(graph, "vm.kernel+initrd").inputs["kernel"] == Ref("vm.kernel")


def test_an_output_of_a_step_can_be_an_image(tmp_path: Path) -> None:
    root = write(tmp_path, GUEST.replace("  - busybox\n", "  - parts^doc\n"))
    sample.put(root, "recipes/parts.yml", "kind: build\ntoolchain: tools\nscript: x\noutputs: [out, doc]\n")
    graph = sample.graph(root)
    assert Ref("parts", "doc") in build_of(graph, "vm.rootfs").inputs.values()
    assert description(graph)["images"]["parts@doc"] == "image-01"


def test_a_file_that_may_be_missing(tmp_path: Path) -> None:
    text = GUEST + "  - {path: etc/more.conf, source: ../files/more.conf, optional: true}\n"
    root = write(tmp_path, text)
    assert [each["path"] for each in description(sample.graph(root))["files"]] == [
        "etc/motd",
        "etc/agent.conf",
    ]
    sample.put(root, "files/more.conf", "x\n")
    assert [each["path"] for each in description(sample.graph(root))["files"]][2] == "etc/more.conf"


# what does not matter


def identity(graph: Graph) -> dict[str, Step]:
    """The steps without the places that name them."""
    return {
        name: replace(step, where="", labels={}) if isinstance(step, Build) else replace(step, where="")
        for name, step in graph.steps.items()
    }


def test_order_of_keys_and_comments_do_not_matter(tmp_path: Path) -> None:
    root = write(tmp_path)
    before = identity(sample.graph(root))
    parts = re.split(r"^(?=\w)", GUEST, flags=re.MULTILINE)[1:]
    sample.put(root, "recipes/vm.yml", "# a comment\n" + "".join(reversed(parts)))
    assert identity(sample.graph(root)) == before


def test_what_is_for_the_launch_alone_leaves_the_root_as_it_is(tmp_path: Path) -> None:
    before = build_of(sample.graph(write(tmp_path)), "vm.rootfs")
    text = GUEST.replace("panic=1", "panic=2") + "memory: 64M\nagent: hyperstart\nmax-size: 6MB\n"
    after = build_of(sample.graph(write(tmp_path, text)), "vm.rootfs")
    assert replace(before, labels={}) == replace(after, labels={})


# the format


def test_every_field_is_read(tmp_path: Path) -> None:
    root = write(tmp_path, EVERY_FIELD.read_text(encoding="utf-8"))
    graph = sample.graph(root)
    service = description(graph)["services"][0]
    assert service["onExit"] == "restart-on-failure"
    assert service["uid"] == 1000
    assert service["resources"]["cpu"]["cpus"] == "0-1"
    assert graph.find("vm") == Ref("vm.vmlinux+erofs+verity")
    fits_schema(EVERY_FIELD.read_text(encoding="utf-8"), json_schema())


def test_the_example_leaves_no_supported_field_out() -> None:
    data = yaml.safe_load(EVERY_FIELD.read_text(encoding="utf-8"))
    used = set(_keys(data))
    missing = {key for key, _ in _fields(GuestRecipe)} - used - {"import", "kind"}
    assert missing == set()


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for each in value:
            yield from _keys(each)


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, bool]]:
    """The keys of a model and of those in it that are supported."""
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "unsupported" in extra:
            continue
        yield field.alias or name, True
        for inner in _models(field.annotation):
            yield from _fields(inner)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)


GIT = ("git", "-c", "safe.directory=*")


def git(*arguments: str) -> str:
    return subprocess.run([*GIT, *arguments], capture_output=True, text=True, check=True).stdout


def linuxkit_files(scratch: Path) -> dict[str, str]:
    """LinuxKit's own descriptions from its repository, a mirror or a copy; skips where none can be reached."""
    folder = os.environ.get("CCSTORE_LINUXKIT") or str(scratch / "linuxkit")
    if not os.environ.get("CCSTORE_LINUXKIT"):
        must_be_reachable(LINUXKIT)
        git("clone", "--quiet", "--depth", "1", "--filter=blob:none", "--sparse", LINUXKIT, folder)
        git("-C", folder, "sparse-checkout", "set", "examples")  # their files alone are fetched, and at once
    listed = git("-C", folder, "ls-tree", "--name-only", "HEAD", "linuxkit.yml", "examples/").split()
    return {name: git("-C", folder, "show", f"HEAD:{name}") for name in listed if name.endswith(".yml")}


def test_linuxkits_own_descriptions_are_recipes_with_one_line_more(tmp_path: Path) -> None:
    base = Base(Path("/project/recipes"), Path("/project"))
    files = linuxkit_files(tmp_path)
    assert len(files) > 20
    wrong = {}
    for name, text in files.items():
        try:
            validate(parse(f"kind: guest\n{text}", name), GuestRecipe, base)
        except CcError as error:
            wrong[name] = error.code
    assert wrong in ({}, {NOT_YAML: "recipe-syntax"})


def test_the_keys_of_a_container_are_linuxkits() -> None:
    """As its documentation lists them, so that none is forgotten or spelt in another way."""
    keys = """
    name image capabilities capabilities.add ambient mounts binds binds.add tmpfs command env cwd net ipc uts pid
    readonly maskedPaths readonlyPaths uid gid additionalGids noNewPrivileges hostname oomScoreAdj
    rootfsPropagation cgroupsPath resources sysctl rlimits annotations userns uidMappings gidMappings devices runtime
    """
    found = {field.alias or name for name, field in Container.model_fields.items()}
    assert found == {*keys.split(), "on-exit"}
