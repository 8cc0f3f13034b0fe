"""Recipes that are YAML and still wrong: each error has its code, its place and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccstore.errors import CcError
from ccstore.recipe.lower import lower
from ccstore.recipe.project import load_project
from tests.recipe import sample
from tests.recipe.sample import HASH, KERNEL, KERNEL_DEBUG, MODULE, TOOLCHAIN


def error_of(root: Path) -> CcError:
    with pytest.raises(CcError) as caught:
        sample.graph(root)
    return caught.value


# what is replaced in which recipe, then the place and a word of the hint or message
WRONG = {
    "misspelt key": ("kernel", "patches:", "patchs:", "10:1", "patches"),
    "misspelt inner key": ("kernel", "  base:", "  bas:", "12:3", "base"),
    "key of another place": ("kernel", "  size:", "  fragments:", "9:3", "size"),
    "misspelt kind": ("kernel", "kind: kernel", "kind: kernle", "1:7", "kernel"),
    "no kind": ("kernel", "kind: kernel\n", "", "1:1", "debian"),
    "kind that is a list": ("kernel", "kind: kernel", "kind: [kernel]", "1:7", "kernel"),
    "missing inner key": ("kernel", f"  sha256: {HASH}\n", "", "4:1", "sha256"),
    "list for text": ("kernel", "version: 6.10", "version: [6, 10]", "2:10", "text"),
    "text for mapping": ("kernel", "config:\n", "config: x\nlocalversion:\n", "11:9", "mapping"),
    "text for number": ("kernel", "size: 137945728", "size: 132 MB", "9:9", "whole number"),
    "number that is not positive": ("kernel", "size: 137945728", "size: 0", "9:9", "0"),
    "a huge number": ("kernel", "size: 137945728", f"size: {'9' * 5000}", "9:9", "number"),
    "not a hash": ("kernel", HASH, HASH[:-1], "8:11", "SHA-256"),
    "not a duration": ("kernel", "timeout: 3h", "timeout: 180", "16:10", "90m"),
    "no duration": ("kernel", "timeout: 3h", "timeout: 0s", "16:10", "90m"),
    "not a truth value": ("kernel", "timeout: 3h", "modules: yes", "16:10", "true"),
    "not a URL": ("kernel", "  - https://example.org/linux.tar.xz", "  - example.org", "7:5", "http(s)"),
    "an option for a URL": ("kernel", "  - https://example.org/linux.tar.xz", "  - --upload-pack=x", "7:5", "URL"),
    "not a target": ("kernel", "toolchain: toolchain", "toolchain: Tool Chain", "3:12", "recipe"),
    "neither target nor path": ("module", "{path: ../module/hello.c}", "{file: x}", "6:3", "path"),
    "reserved input": ("module", "  hello:", "  .builder:", "6:3", ".builder"),
    "input with a slash": ("module", "  hello:", "  a/b:", "6:3", "input"),
    "environment name": ("module", "{LEVEL: 10}", "{A-B: 10}", "9:7", "variable"),
    "overlay of nothing": ("module", "{out: source}", "{out: sauce}", "1:1", "sauce"),
    "output given twice": ("module", "[out, doc]", "[out, out]", "1:1", "outputs"),
    "no output": ("module", "[out, doc]", "[]", "10:10", "1 item"),
    "epoch in env": ("module", "{LEVEL: 10}", "{SOURCE_DATE_EPOCH: 10}", "1:1", "source-date-epoch"),
    "env that the sandbox needs": ("module", "{LEVEL: 10}", "{HOME: /root}", "9:7", "HOME is /build"),
    "output with a long name": ("module", "[out, doc]", f"[out, {'doc' * 70}]", "10:16", "too many"),
    "follow what no branch is called": ("agent", "kind: git", "kind: git\nfollow: a..b", "2:9", "branch"),
    "patches of nothing": ("kernel", "patches: ../kernel/patches", "patches: {series: x}", "10:1", "`path`"),
    "patches that climb": (
        "kernel",
        "patches: ../kernel/patches",
        "patches: [{from: agent, path: ../x}]",
        "10:31",
        "..",
    ),
    "patches with another key": (
        "kernel",
        "patches: ../kernel/patches",
        "patches: [{from: agent, skip: true}]",
        "10:25",
        "skip-applied",
    ),
    "a base with a config target inside": (
        "kernel",
        "base: tinyconfig",
        "base: {make: tinyconfig}",
        "12:3",
        "a word alone",
    ),
    "fragment that skips": (
        "kernel",
        "  - ../kernel/config/base.config",
        "  - {from: agent, path: x, skip-applied: true}",
        "14:28",
        "path",
    ),
    "sandbox's own env": ("module", "{LEVEL: 10}", "{CCSTORE_CORES: 10}", "1:1", "CCSTORE_CORES"),
    "link that climbs": ("toolchain", "  usr/bin/sh:", "  ../sh:", "6:3", ".."),
    "absolute link": ("toolchain", "  usr/bin/sh:", "  /bin/sh:", "6:3", "path"),
    "no packages": ("toolchain", "[gcc, make]", "[]", "4:11", "1 item"),
    "package name": ("toolchain", "[gcc, make]", "[gcc, Make]", "4:17", "package"),
    "commit that is a branch": ("agent", "c0c07d218b482dd07f9068b52a6e7468ae4172ac", "main", "3:9", "40"),
    "path that climbs": ("agent", "[src, LICENSE]", "[../src]", "4:9", ".."),
    "add without extends": ("kernel", "  base: tinyconfig", "  add: [../kernel/config/base.config]", "11:1", "add"),
    "fragments and add": ("kernel-debug", "  add:", "  fragments: []\n  base: x\n  add:", "3:1", "add"),
    "drop of what is not there": ("kernel-debug", "virtio.config", "debug.config", "5:10", "debug.config"),
    "kernel that lacks fields": ("kernel-debug", "extends: kernel\n", "", "1:1", "version"),
    "extends something else": ("kernel-debug", "extends: kernel", "extends: toolchain", "2:10", "debian"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_recipe(case: str, tmp_path: Path) -> None:
    recipe, old, new, place, word = WRONG[case]
    text = sample.FILES[f"recipes/{recipe}.yml"]
    assert old in text
    error = error_of(sample.write(tmp_path, **{recipe: text.replace(old, new, 1)}))
    assert error.code == "recipe-invalid"
    assert error.where == f"recipes/{recipe}.yml:{place}"
    assert word in f"{error.message} {error.hint}"
    assert "^" in error.details[1]


@pytest.mark.parametrize(
    ("recipe", "text", "place", "hint"),
    [
        ("kernel_debug", KERNEL_DEBUG.replace("extends: kernel", "extends: kernal"), "2:10", "kernel"),
        ("kernel", KERNEL.replace("toolchain: toolchain", "toolchain: tolchain"), "3:12", "toolchain"),
        ("module", MODULE.replace("kernel-debug.tree", "kernel-debug.three"), "5:11", "kernel-debug.tree"),
        ("module", MODULE.replace("kernel-debug^dev", "kernel-debug^devel"), "4:10", "out, dev"),
    ],
)
def test_a_reference_to_nothing(recipe: str, text: str, place: str, hint: str, tmp_path: Path) -> None:
    error = error_of(sample.write(tmp_path, **{recipe: text}))
    assert (error.code, error.where) == ("recipe-unknown", f"recipes/{recipe.replace('_', '-')}.yml:{place}")
    assert hint in str(error.hint)


def test_everything_that_is_wrong_is_listed(tmp_path: Path) -> None:
    text = KERNEL.replace("version:", "vershun:").replace("size: 137945728", "size: big").replace("3h", "3")
    error = error_of(sample.write(tmp_path, kernel=text))
    assert error.where == "recipes/kernel.yml:2:1"
    listed = "\n".join(error.details)
    assert "recipes/kernel.yml:9:9: " in listed
    assert "recipes/kernel.yml:16:10: " in listed


def test_a_cycle_is_named_and_placed(tmp_path: Path) -> None:
    text = "kind: build\ntoolchain: firmware\nscript: x\ninputs:\n  fw: agent\n  k: module^doc\n"
    error = error_of(
        sample.write(
            tmp_path, guest=text, module=MODULE.replace("source: kernel-debug.tree", "source: guest")
        )
    )
    assert (error.code, error.where) == ("recipe-cycle", "recipes/guest.yml:6:6")
    assert "guest → module → guest" in error.message


def test_a_recipe_that_needs_itself(tmp_path: Path) -> None:
    error = error_of(
        sample.write(tmp_path, kernel=KERNEL.replace("toolchain: toolchain", "toolchain: kernel"))
    )
    assert (error.code, error.where) == ("recipe-cycle", "recipes/kernel.yml:3:12")


def test_recipes_that_extend_each_other(tmp_path: Path) -> None:
    root = sample.write(tmp_path, kernel="kind: kernel\nextends: kernel-debug\n")
    error = error_of(root)
    assert error.code == "recipe-cycle"
    assert error.where in ("recipes/kernel.yml:2:10", "recipes/kernel-debug.yml:2:10")


def test_a_long_chain_of_recipes_is_no_problem(tmp_path: Path) -> None:
    root = sample.write(tmp_path)
    for number in range(400):
        needs = f"link{number - 1}" if number else "firmware"
        sample.put(root, f"recipes/link{number}.yml", f"kind: build\ntoolchain: {needs}\nscript: x\n")
    assert "link399" in sample.graph(root).steps


PIECES = st.sampled_from(
    [
        *KERNEL.splitlines(),
        *MODULE.splitlines(),
        *TOOLCHAIN.splitlines(),
        "",
        "  x: [",
        "- ~",
        "kind: url",
        "a: {}",
    ]
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(PIECES, max_size=12),
    kind=st.sampled_from(["url", "git", "path", "debian", "kernel", "build", ""]),
)
def test_no_text_gives_anything_but_an_error_of_ours(lines: list[str], kind: str, tmp_path: Path) -> None:
    text = "\n".join([f"kind: {kind}", *lines] if kind else lines)
    if not (tmp_path / "recipes").exists():
        sample.write(tmp_path)
    sample.put(tmp_path, "recipes/mixed.yml", text)
    try:
        names = set(lower(load_project(tmp_path)).recipes)
    except CcError as error:
        assert error.exit_status == 2  # noqa: PT017
    else:
        assert "mixed" in names
