"""Lowering: which steps there are, what enters them, and what does not.

The golden file holds every step of the sample project. After a change that is meant, write it anew with
`python -m pytest tests/recipe/test_lower.py --accept` and read the difference.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from ccstore.model.derivation import DEBIAN_TREE_REVISION
from ccstore.model.graph import Build, Fetch, Graph, Local, Ref, Step, UrlSource
from ccstore.model.hashes import Sha256
from ccstore.model.storepath import check_name
from ccstore.recipe.lower import lower
from ccstore.recipe.project import load_project
from ccstore.recipe.scripts import script
from tests.recipe import sample
from tests.recipe.sample import HASH, KERNEL, KERNEL_DEBUG, LOCK, MODULE, TOOLCHAIN

GOLDEN = Path(__file__).parent / "golden" / "sample.json"


def build_of(graph: Graph, name: str) -> Build:
    step = graph.steps[name]
    assert isinstance(step, Build)
    return step


def fetch_of(graph: Graph, name: str) -> Fetch:
    step = graph.steps[name]
    assert isinstance(step, Fetch)
    return step


def test_the_steps_of_the_sample(tmp_path: Path, accept: bool) -> None:
    graph = sample.graph(sample.write(tmp_path))
    found = {
        "steps": {name: _readable(step, tmp_path) for name, step in graph.steps.items()},
        "aliases": graph.aliases,
        "recipes": graph.recipes,
    }
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    if accept:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def _readable(step: Step, root: Path) -> dict[str, Any]:
    """A step as JSON: texts of builders by name only, paths relative to the project."""
    value = json.loads(json.dumps(asdict(step), default=_plain))
    if isinstance(step, Local):
        value["path"] = str(step.path.relative_to(root.resolve()))
    if isinstance(step, Build):
        builders = {name for name, text in step.files.items() if _is_builder(name, text)}
        value["files"] = {name: "builder" if name in builders else text for name, text in step.files.items()}
    return {"type": type(step).__name__, **value}


def _is_builder(name: str, text: str) -> bool:
    try:
        return script(name) == text
    except FileNotFoundError:
        return False


def _plain(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(value)


# what does not matter


def identity(graph: Graph) -> dict[str, Step]:
    """The steps without the places that name them."""
    return {name: replace(step, where="") for name, step in graph.steps.items()}


def test_order_of_keys_comments_and_styles_do_not_matter(tmp_path: Path) -> None:
    shuffled = "\n".join(
        [
            "# a comment",
            "timeout: '3h'",
            "config: {fragments: ['../kernel/config/base.config', ../kernel/../kernel/config/virtio.config]}",
            "patches: [../kernel/patches]",
            f"source: {{sha256: 'sha256:{HASH}', url: [mirror://debian/pool/linux.tar.xz,",
            '  "https://example.org/linux.tar.xz"], size: 137945728}',
            "toolchain: toolchain",
            "modules: false",
            "version: '6.10'   # quoted",
            "kind: kernel",
        ]
    )
    one = sample.write(tmp_path / "one")
    graph = sample.graph(one)
    sample.put(one, "recipes/kernel.yml", shuffled)
    sample.put(one, "recipes/toolchain.yml", "\n".join(reversed(TOOLCHAIN.split("\nlinks:\n")[0].splitlines())) + (
        "\nexclude:\n- usr/share/man/*\n- usr/share/doc/*\nlinks: {usr/bin/cc: gcc, usr/bin/sh: bash}\n"
    ))  # fmt: skip
    assert identity(sample.graph(one)) == identity(graph)


def test_the_place_of_the_project_does_not_matter(tmp_path: Path) -> None:
    graphs = [sample.graph(sample.write(tmp_path / name)) for name in ("one", "two/three")]
    steps = [
        {
            name: replace(step, path=Path()) if isinstance(step, Local) else step
            for name, step in graph.steps.items()
        }
        for graph in graphs
    ]
    assert steps[0] == steps[1]


CONTENT = Sha256.of(b"content")


def ids(graph: Graph) -> dict[str, str]:
    """The ids of all builds and fetches, if every input had the same content."""
    result = {}
    for name, step in graph.steps.items():
        if isinstance(step, Build):
            result[name] = step.resolve(dict.fromkeys(step.references(), CONTENT)).id
        elif isinstance(step, Fetch):
            result[name] = step.fixed.id
    return result


@pytest.mark.parametrize(
    ("recipe", "old", "new"),
    [
        ("kernel", "timeout: 3h", "timeout: 4h"),
        ("kernel", "mirror://debian/pool/linux.tar.xz", "https://elsewhere.example/l"),
        ("kernel", "size: 137945728", "stall-timeout: 10s"),
        ("module", "timeout: 1m30s\n", ""),
        ("agent", "https://example.org/agent", "https://elsewhere.example/agent"),
    ],
)
def test_what_cannot_change_an_output_is_not_in_an_id(
    recipe: str, old: str, new: str, tmp_path: Path
) -> None:
    root = sample.write(tmp_path)
    before = ids(sample.graph(root))
    text = sample.FILES[f"recipes/{recipe}.yml"]
    assert old in text
    sample.put(root, f"recipes/{recipe}.yml", text.replace(old, new))
    assert ids(sample.graph(root)) == before


@pytest.mark.parametrize(
    ("recipe", "old", "new", "changed"),
    [
        ("kernel", "version: 6.10", "version: 6.1", {"kernel.config", "kernel-debug.config"}),
        ("kernel", "base: tinyconfig", "base: defconfig", {"kernel.config", "kernel-debug.config"}),
        ("kernel", "timeout: 3h", "localversion: -x", {"kernel", "kernel-debug"}),
        ("kernel", "timeout: 3h", "modules: true", {"kernel", "kernel-debug"}),
        (
            "kernel",
            "timeout: 3h",
            "source-date-epoch: 2",
            {"kernel", "kernel.oci", "kernel-debug", "kernel-debug.oci"},
        ),
        ("kernel-debug", "kind: kernel", "kind: kernel\nmodules: true", {"kernel-debug"}),
        ("module", "make -C", "make -B -C", {"module"}),
        ("module", "{LEVEL: 10}", "{LEVEL: 11}", {"module"}),
        ("module", "{out: source}", "{doc: source}", {"module"}),
        ("toolchain", "usr/bin/sh: bash", "usr/bin/sh: dash", {"toolchain"}),
        ("toolchain", "usr/share/doc/*", "usr/share/doc/x", {"toolchain"}),
        ("firmware", HASH, HASH[::-1], {"firmware"}),
        ("firmware", "executable: true", "executable: false", {"firmware"}),
    ],
)
def test_what_can_change_an_output_is_in_its_id(
    recipe: str, old: str, new: str, changed: set[str], tmp_path: Path
) -> None:
    root = sample.write(tmp_path)
    before = ids(sample.graph(root))
    text = sample.FILES[f"recipes/{recipe}.yml"]
    assert old in text
    sample.put(root, f"recipes/{recipe}.yml", text.replace(old, new))
    after = ids(sample.graph(root))
    assert {name for name in after if after[name] != before.get(name)} == changed


# kinds


def test_a_tree_of_packages(tmp_path: Path) -> None:
    graph = sample.graph(sample.write(tmp_path))
    tree = build_of(graph, "toolchain")
    assert (tree.argv, tree.root, tree.policy) == (("builtin:debian-tree",), None, DEBIAN_TREE_REVISION)
    assert tree.inputs["libstdc++6"] == Ref("toolchain.libstdc++6")
    assert tree.files["links"] == "usr/bin/cc -> gcc\nusr/bin/sh -> bash\n"
    assert tree.files["exclude"] == "usr/share/doc/*\nusr/share/man/*\n"
    package = fetch_of(graph, "toolchain.gcc")
    assert package.source == UrlSource(
        ("mirror://debian/pool/main/g/gcc-defaults/gcc_12.2.0-3_amd64.deb",), 5216
    )
    assert (package.fixed.name, package.fixed.method) == ("toolchain-gcc", "flat")


def test_without_its_lock_a_project_cannot_be_lowered(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lock"):
        lower(load_project(sample.write(tmp_path), locks=False))


def test_a_kernel_without_patches_is_built_from_the_tree(tmp_path: Path) -> None:
    text = KERNEL.replace("patches: ../kernel/patches\n", "")
    graph = sample.graph(sample.write(tmp_path, kernel=text))
    assert graph.aliases["kernel.patched"] == graph.aliases["kernel-debug.patched"] == "kernel.tree"
    assert build_of(graph, "kernel").inputs["tree"] == Ref("kernel.tree")


def test_a_variant_may_do_without_the_patches(tmp_path: Path) -> None:
    graph = sample.graph(sample.write(tmp_path, kernel_debug=KERNEL_DEBUG + "patches: []\n"))
    assert graph.aliases["kernel-debug.patched"] == "kernel.tree"
    assert build_of(graph, "kernel-debug.kconfig").inputs["tree"] == Ref("kernel.tree")


def test_patches_and_fragments_keep_their_order_and_names(tmp_path: Path) -> None:
    text = KERNEL.replace(
        "patches: ../kernel/patches", "patches: [../kernel/patches/0001-x.patch, ../kernel/patches]"
    )
    graph = sample.graph(sample.write(tmp_path, kernel=text))
    patched, config = build_of(graph, "kernel.patched"), build_of(graph, "kernel.config")
    assert patched.labels == {"patches-00": "kernel/patches/0001-x.patch", "patches-01": "kernel/patches"}
    assert patched.overlays == {"out": "tree"}
    assert config.inputs["fragment-01-virtio.config"] == Ref("./kernel/config/virtio.config")
    assert config.labels["fragment-01-virtio.config"] == "kernel/config/virtio.config"
    assert config.env["VERSION"] == "6.10"


def test_a_base_that_is_a_file(tmp_path: Path) -> None:
    text = KERNEL.replace("base: tinyconfig", "base: ../kernel/config/debug.config")
    config = build_of(sample.graph(sample.write(tmp_path, kernel=text)), "kernel.config")
    assert (config.env["BASE"], config.inputs["base"]) == ("file", Ref("./kernel/config/debug.config"))


def test_a_variant_adds_and_drops_fragments(tmp_path: Path) -> None:
    config = build_of(sample.graph(sample.write(tmp_path)), "kernel-debug.config")
    fragments = [name for name in config.inputs if name.startswith("fragment")]
    assert fragments == ["fragment-00-base.config", "fragment-01-debug.config"]
    assert config.inputs["tree"] == Ref("kernel.kconfig")


def test_a_variant_of_a_variant(tmp_path: Path) -> None:
    root = sample.write(tmp_path)
    sample.put(root, "recipes/a.yml", "kind: kernel\nextends: kernel-debug\nmodules: true\n")
    graph = sample.graph(root)
    assert graph.aliases["a.config"] == "kernel-debug.config"
    assert graph.aliases["a.tree"] == "kernel.tree"
    assert build_of(graph, "a").env["MODULES"] == "1"
    assert graph.find("a.source") == Ref("kernel.source")


def test_a_variant_with_its_own_source_shares_nothing_of_it(tmp_path: Path) -> None:
    text = KERNEL_DEBUG + f"source: {{url: https://example.org/x, sha256: {HASH[::-1]}}}\n"
    graph = sample.graph(sample.write(tmp_path, kernel_debug=text))
    assert not [name for name in graph.aliases if name.startswith("kernel-debug.")]
    assert build_of(graph, "kernel-debug.tree").inputs["source"] == Ref("kernel-debug.source")


def test_paths_that_are_inherited_stay_relative_to_where_they_were_written(tmp_path: Path) -> None:
    root = sample.write(tmp_path / "p")
    sample.put(tmp_path, "shared/variant.yml", "kind: kernel\nextends: kernel\nconfig: {add: [v.config]}\n")
    sample.put(tmp_path, "shared/v.config", "CONFIG_V=y\n")
    sample.put(root, "recipes/guest.yml", "kind: path\npath: ../module\nimport: [../../shared/variant.yml]\n")
    config = build_of(sample.graph(root), "variant.config")
    assert config.inputs["fragment-00-base.config"] == Ref("./kernel/config/base.config")
    assert config.inputs["fragment-02-v.config"] == Ref("../shared/v.config")


def test_a_script_with_inputs(tmp_path: Path) -> None:
    module = build_of(sample.graph(sample.write(tmp_path)), "module")
    assert module.argv == ("/bin/bash", "-eu", "/in/.builder/build.sh")
    assert module.files == {"build.sh": "make -C /in/linux\n"}
    assert module.inputs["linux"] == Ref("kernel-debug", "dev")
    assert module.inputs["source"] == Ref("kernel.tree")
    assert module.env == {"LEVEL": "10", "SOURCE_DATE_EPOCH": "1"}
    assert (module.outputs, module.overlays, module.timeout) == (("out", "doc"), {"out": "source"}, 90.0)


def test_an_executable_download_is_another_object(tmp_path: Path) -> None:
    fetch = fetch_of(sample.graph(sample.write(tmp_path)), "firmware")
    assert isinstance(fetch.source, UrlSource)
    assert fetch.source.executable
    assert fetch.fixed.name == "firmware_executable"


def test_every_object_can_be_named(tmp_path: Path) -> None:
    odd = "ä b~" + "x" * 230
    root = sample.write(tmp_path, module=MODULE.replace("../module/hello.c", f"'../module/{odd}'"))
    sample.put(root, f"module/{odd}", "x")
    for step in sample.graph(root).steps.values():
        check_name(step.fixed.name if isinstance(step, Fetch) else step.object_name)


def test_a_package_with_a_long_name_can_be_named(tmp_path: Path) -> None:
    root = sample.write(tmp_path)
    sample.put(root, "pins/toolchain.yml", LOCK.replace("name: libstdc++6", f"name: {'l' * 300}"))
    for step in sample.graph(root).steps.values():
        if isinstance(step, Fetch):
            check_name(step.fixed.name)
