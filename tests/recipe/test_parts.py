"""Patches and fragments that are part of a target: which steps they take, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.model.graph import Build, Graph, Ref
from tests.recipe import sample
from tests.recipe.sample import KERNEL, KERNEL_DEBUG

PATCHES = "patches: ../kernel/patches"
FRAGMENTS = "  - ../kernel/config/virtio.config\n"


def kernel(root: Path, patches: str = PATCHES, more: str = "", debug: str = KERNEL_DEBUG) -> Graph:
    text = KERNEL.replace(PATCHES, patches).replace(FRAGMENTS, FRAGMENTS + more)
    return sample.graph(sample.write(root, kernel=text, kernel_debug=debug))


def build_of(graph: Graph, name: str) -> Build:
    step = graph.steps[graph.aliases.get(name, name)]
    assert isinstance(step, Build)
    return step


def test_a_folder_of_a_repository(tmp_path: Path) -> None:
    graph = kernel(tmp_path, "patches: {from: agent, path: kernel/6.x/patches, skip-applied: true}")
    part, patched = build_of(graph, "kernel.patches-00"), build_of(graph, "kernel.patched")
    assert (part.inputs, part.env["PART"]) == ({"source": Ref("agent")}, "kernel/6.x/patches")
    assert part.where == "recipes/kernel.yml:10:1"
    assert patched.inputs["patches-00"] == Ref("kernel.patches-00")
    assert patched.env["OPTIONS"] == '{"patches-00": {"skip-applied": true}}'
    assert patched.labels == {"patches-00": "agent:kernel/6.x/patches"}


def test_a_whole_target_takes_no_step(tmp_path: Path) -> None:
    graph = kernel(tmp_path, "patches: [{from: firmware}, ../kernel/patches]")
    patched = build_of(graph, "kernel.patched")
    assert patched.inputs["patches-00"] == Ref("firmware")
    assert patched.inputs["patches-01"] == Ref("./kernel/patches")
    assert patched.env["OPTIONS"] == "{}"
    assert "kernel.patches-00" not in graph.steps


def test_a_path_may_be_written_out(tmp_path: Path) -> None:
    short = build_of(kernel(tmp_path / "a"), "kernel.patched")
    long = build_of(kernel(tmp_path / "b", "patches: {path: ../kernel/patches}"), "kernel.patched")
    series = build_of(
        kernel(tmp_path / "c", "patches: {path: ../kernel/patches, series: s}"), "kernel.patched"
    )
    assert (long.inputs, long.env) == (short.inputs, short.env)
    assert series.env["OPTIONS"] == '{"patches-00": {"series": "s"}}'


def test_a_fragment_of_a_repository(tmp_path: Path) -> None:
    graph = kernel(tmp_path, more="  - {from: agent, path: kernel/6.x/config-x86_64}\n")
    config = build_of(graph, "kernel.config")
    name = "fragment-02-config-x86_64"
    assert config.inputs[name] == Ref(f"kernel.{name}")
    assert config.labels[name] == "agent:kernel/6.x/config-x86_64"
    assert build_of(graph, f"kernel.{name}").where == "recipes/kernel.yml:16:5"


def test_a_base_of_a_repository(tmp_path: Path) -> None:
    text = KERNEL.replace("base: tinyconfig", "base: {from: agent, path: config-x86_64}")
    config = build_of(sample.graph(sample.write(tmp_path, kernel=text)), "kernel.config")
    assert (config.env["BASE"], config.inputs["base"]) == ("file", Ref("kernel.base"))


def test_a_variant_shares_the_parts_that_it_inherits(tmp_path: Path) -> None:
    graph = kernel(tmp_path, "patches: {from: agent, path: x}", "  - {from: agent, path: y}\n")
    assert graph.aliases["kernel-debug.patches-00"] == "kernel.patches-00"
    assert graph.aliases["kernel-debug.patched"] == "kernel.patched"


def test_a_variant_drops_a_fragment_of_a_repository(tmp_path: Path) -> None:
    drop = "drop: [{from: agent, path: y}]\n"
    debug = KERNEL_DEBUG.replace("drop: [../kernel/config/virtio.config]\n", drop)
    graph = kernel(tmp_path, more="  - {from: agent, path: y}\n", debug=debug)
    assert [name for name in build_of(graph, "kernel-debug.config").inputs if name.endswith("-y")] == []
    with pytest.raises(CcError) as caught:
        kernel(tmp_path, more="  - {from: agent, path: z}\n", debug=debug)
    assert "agent:y is not a fragment" in caught.value.message


@pytest.mark.parametrize(
    ("patches", "more", "place"),
    [
        ("patches: {from: agnet, path: x}", "", "recipes/kernel.yml:10:1"),
        (PATCHES, "  - {from: agnet}\n", "recipes/kernel.yml:16:12"),
    ],
)
def test_a_target_that_is_not_there(tmp_path: Path, patches: str, more: str, place: str) -> None:
    with pytest.raises(CcError) as caught:
        kernel(tmp_path, patches, more)
    assert (caught.value.code, caught.value.where) == ("recipe-unknown", place)
    assert "agent" in str(caught.value.hint)
