"""Finding and loading projects: configuration, imports, links that lead outside, files that are not there, locks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.recipe.project import load_project, load_user_config
from tests.recipe import sample
from tests.recipe.sample import KERNEL, LOCK, MODULE, TOOLCHAIN


def error_of(root: Path) -> CcError:
    with pytest.raises(CcError) as caught:
        load_project(root)
    return caught.value


# configuration


def test_the_configuration(tmp_path: Path) -> None:
    root = sample.write(tmp_path)
    text = "mirrors:\n  debian: https://example.org/d\n  kernel: [https://a.example/k, file:///mnt/k]\n"
    sample.put(root, "recipes/ccstore.yml", text + "executor: docker\njobs: 3\ncores: 8\n")
    config = load_project(root).config
    assert config.mirrors["debian"] == ["https://example.org/d"]
    assert config.mirrors["kernel"] == ["https://a.example/k", "file:///mnt/k"]
    assert (config.executor, config.jobs, config.cores) == ("docker", 3, 8)


@pytest.mark.parametrize(
    ("folder", "wanted"), [("My Guests!", "my-guests"), ("...", "project"), ("v1.2", "v1.2")]
)
def test_a_project_is_called_like_its_folder(folder: str, wanted: str, tmp_path: Path) -> None:
    sample.put(tmp_path / folder, "recipes/ccstore.yml", "")
    assert load_project(tmp_path / folder).config.project == wanted


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("project: a/b\n", "1:10"),
        ("jobs: none\n", "1:7"),
        ("executor: podman\n", "1:11"),
        ("mirors: {}\n", "1:1"),
        ("mirrors:\n  Debian: https://example.org\n", "2:3"),
        ("mirrors:\n  debian: mirror://debian/x\n", "2:11"),
        ("jobs: [\n", "1:7"),
        ("- x\n", "1:1"),
    ],
)
def test_a_wrong_configuration(text: str, place: str, tmp_path: Path) -> None:
    sample.put(sample.write(tmp_path), "recipes/ccstore.yml", text)
    error = error_of(tmp_path)
    assert (error.code, error.where) == ("config-invalid", f"recipes/ccstore.yml:{place}")


def test_a_persons_configuration(tmp_path: Path) -> None:
    sample.put(tmp_path, "xdg/ccstore/config.yml", "mirrors: {debian: https://example.org/d}\n")
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "HOME": "/home/someone"}
    found = load_user_config(environ)
    assert found.mirrors == {"debian": ["https://example.org/d"]}


def test_a_persons_configuration_below_home(tmp_path: Path) -> None:
    sample.put(tmp_path, ".config/ccstore/config.yml", "jobs: 7\n")
    assert load_user_config({"HOME": str(tmp_path)}).jobs == 7
    assert load_user_config({"HOME": str(tmp_path), "XDG_CONFIG_HOME": "relative"}).jobs == 7


def test_no_persons_configuration(tmp_path: Path) -> None:
    assert load_user_config({}).jobs is None
    assert load_user_config({"HOME": str(tmp_path)}).jobs is None


def test_a_wrong_persons_configuration(tmp_path: Path) -> None:
    path = sample.put(tmp_path, "ccstore/config.yml", "jobs: 2\nproject: x\n")
    with pytest.raises(CcError) as caught:
        load_user_config({"XDG_CONFIG_HOME": str(tmp_path)})
    assert (caught.value.code, caught.value.where) == ("config-invalid", f"{path}:2:1")


# imports


def test_imports_join_with_what_they_import(tmp_path: Path) -> None:
    root = sample.write(
        tmp_path / "p", firmware="kind: path\npath: ../module\nimport: [../../shared/one.yml]\n"
    )
    one = sample.put(tmp_path, "shared/one.yml", "kind: path\npath: data\nimport: [more/two.yml]\n")
    two = sample.put(tmp_path, "shared/more/two.yml", "kind: path\npath: ../data\nimport: [../one.yml]\n")
    data = sample.put(tmp_path, "shared/data", "x")
    project = load_project(root)
    assert {"firmware", "one", "two"} <= set(project.recipes)
    assert {one.resolve(), two.resolve()} <= set(project.files_read)
    assert project.found[data.resolve()].where == "../shared/one.yml:2:7"


def test_importing_a_recipe_of_the_project_changes_nothing(tmp_path: Path) -> None:
    root = sample.write(tmp_path, guest="kind: path\npath: ../module\nimport: [kernel.yml]\n")
    assert len(load_project(root).recipes) == 7


def test_two_recipes_of_one_name(tmp_path: Path) -> None:
    root = sample.write(tmp_path / "p", guest="kind: path\npath: ../module\nimport: [../../kernel.yml]\n")
    sample.put(tmp_path, "kernel.yml", "kind: path\npath: kernel.yml\n")
    error = error_of(root)
    assert (error.code, error.where) == ("recipe-invalid", "recipes/guest.yml:3:10")


@pytest.mark.parametrize(
    ("name", "code"),
    [("gone.yml", "file-missing"), ("../module", "recipe-invalid"), ("ccstore.yml", "name-invalid")],
)
def test_an_import_that_cannot_be(name: str, code: str, tmp_path: Path) -> None:
    error = error_of(sample.write(tmp_path, guest=f"kind: path\npath: ../module\nimport: [{name}]\n"))
    assert (error.code, error.where) == (code, "recipes/guest.yml:3:10")


# named files


def test_a_missing_file_is_placed_and_the_next_best_named(tmp_path: Path) -> None:
    text = KERNEL.replace("virtio.config", "virtoi.config")
    error = error_of(sample.write(tmp_path, kernel=text))
    assert (error.code, error.where) == ("file-missing", "recipes/kernel.yml:15:5")
    assert "kernel/config/virtio.config" in str(error.hint)


def test_a_missing_lock_is_written_by_a_command(tmp_path: Path) -> None:
    root = sample.write(
        tmp_path, tools="kind: debian\nsuite: bookworm\nlock: ../tools.lock.yml\npackages: [bash]\n"
    )
    error = error_of(root)
    assert (error.code, error.where) == ("file-missing", "recipes/tools.yml:3:7")
    assert "`ccstore lock`" in str(error.hint)


def test_all_missing_files_are_listed(tmp_path: Path) -> None:
    text = KERNEL.replace("virtio.config", "x").replace("kernel/patches", "y")
    error = error_of(sample.write(tmp_path, kernel=text))
    assert error.where == "recipes/kernel.yml:10:10"
    assert any(line.startswith("recipes/kernel.yml:15:5: ") for line in error.details)


def test_a_folder_where_a_file_is_wanted(tmp_path: Path) -> None:
    error = error_of(sample.write(tmp_path, kernel=KERNEL.replace("config/virtio.config", "config")))
    assert (error.code, error.where) == ("recipe-invalid", "recipes/kernel.yml:15:5")


def test_a_device_is_no_input(tmp_path: Path) -> None:
    error = error_of(sample.write(tmp_path, guest="kind: path\npath: /dev/null\n"))
    assert (error.code, error.where) == ("recipe-invalid", "recipes/guest.yml:2:7")


def test_a_path_that_is_spelt_out_may_lead_outside(tmp_path: Path) -> None:
    root = sample.write(tmp_path / "p", guest="kind: path\npath: ../../elsewhere\n")
    outside = sample.put(tmp_path, "elsewhere", "x").resolve()
    assert load_project(root).found[outside].path == outside


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside"])
def test_a_link_may_not_lead_outside(target: str, tmp_path: Path) -> None:
    root = sample.write(tmp_path / "p")
    sample.put(tmp_path, "outside", "x")
    link = root / "module" / "hello.c"
    link.unlink()
    link.symlink_to(target)
    error = error_of(root)
    assert (error.code, error.where) == ("recipe-outside", "recipes/module.yml:6:17")


def test_a_folder_on_the_way_may_not_lead_outside(tmp_path: Path) -> None:
    root = sample.write(tmp_path / "p")
    (root / "module").rename(tmp_path / "module")
    (root / "module").symlink_to(tmp_path / "module")
    assert error_of(root).code == "recipe-outside"


def test_a_link_within_the_project_is_followed_and_remembered(tmp_path: Path) -> None:
    root = sample.write(tmp_path, module=MODULE.replace("hello.c", "link.c")).resolve()
    (root / "module" / "link.c").symlink_to("hello.c")
    project = load_project(root)
    assert project.found[root / "module/link.c"].path == root / "module/hello.c"
    assert root / "module/link.c" in project.files_read


def test_links_that_go_in_a_circle(tmp_path: Path) -> None:
    root = sample.write(tmp_path)
    (root / "recipes" / "a.yml").symlink_to("b.yml")
    (root / "recipes" / "b.yml").symlink_to("a.yml")
    assert error_of(root).code == "file-missing"


def test_every_link_on_the_way_is_remembered(tmp_path: Path) -> None:
    root = sample.write(tmp_path, module=MODULE.replace("../module/hello.c", "../a/hello.c")).resolve()
    (root / "a").symlink_to("b")
    (root / "b").symlink_to(root / "module")
    (root / "recipes/copy.yml").symlink_to("../module/copy.yml")
    copy = sample.put(root, "module/copy.yml", "kind: path\npath: ../module\n")
    read = load_project(root).files_read
    assert {root / "a", root / "b", root / "recipes/copy.yml", copy} <= set(read)


@pytest.mark.parametrize("name", ["recipes/evil.yml", "recipes/ccstore.yml", "recipes"])
def test_a_recipe_outside_the_project(name: str, tmp_path: Path) -> None:
    root = sample.write(tmp_path / "p")
    outside = tmp_path / "outside"
    if name == "recipes":
        (root / "recipes").rename(outside)
    else:
        outside.write_text("kind: path\npath: .\n")
        (root / name).unlink(missing_ok=True)
    (root / name).symlink_to(outside)
    assert error_of(root).code == "recipe-outside"


def test_links_of_an_imported_recipe_stay_where_it_lies(tmp_path: Path) -> None:
    root = sample.write(tmp_path / "p", guest="kind: path\npath: ../module\nimport: [../../shared/one.yml]\n")
    sample.put(tmp_path, "shared/one.yml", "kind: path\npath: link\n")
    (tmp_path / "shared" / "link").symlink_to("/etc/passwd")
    error = error_of(root)
    assert (error.code, error.where) == ("recipe-outside", "../shared/one.yml:2:7")


def test_a_project_behind_a_link_is_itself(tmp_path: Path) -> None:
    root = sample.write(tmp_path / "p").resolve()
    (tmp_path / "link").symlink_to(root)
    assert load_project(tmp_path / "link").root == root


# locks


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (TOOLCHAIN.replace("[gcc, make]", "[gcc, make, flex]"), "4:1"),
        (TOOLCHAIN.replace("[gcc, make]", "[gcc]"), "4:1"),
        (TOOLCHAIN.replace("bookworm", "trixie"), "2:8"),
    ],
)
def test_a_lock_for_another_request_is_stale(text: str, place: str, tmp_path: Path) -> None:
    error = error_of(sample.write(tmp_path, toolchain=text))
    assert (error.code, error.where) == ("lock-stale", f"recipes/toolchain.yml:{place}")
    assert error.hint == "ccstore lock toolchain"


def test_the_order_of_the_request_does_not_matter(tmp_path: Path) -> None:
    root = sample.write(tmp_path, toolchain=TOOLCHAIN.replace("[gcc, make]", "[make, gcc]"))
    assert load_project(root).recipes["toolchain"].lock is not None


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("size: 5216", "size: -1", "10:9"),
        ("path: pool/main/g/gcc-defaults", "path: ../../etc", "9:9"),
        ("path: pool/main/g/gcc-defaults", "path: https://example.org", "9:9"),
        ("name: libstdc++6", "name: gcc", "6:1"),
        ("  architecture: amd64\n", "", "6:3"),
        ("suite: bookworm", "suite: &x bookworm", "1:8"),
    ],
)
def test_a_lock_that_is_damaged(old: str, new: str, place: str, tmp_path: Path) -> None:
    root = sample.write(tmp_path)
    sample.put(root, "pins/toolchain.yml", LOCK.replace(old, new, 1))
    error = error_of(root)
    assert (error.code, error.where) == ("lock-invalid", f"pins/toolchain.yml:{place}")


def test_a_missing_lock_is_placed_and_can_be_done_without(tmp_path: Path) -> None:
    root = sample.write(tmp_path)
    (root / "pins" / "toolchain.yml").unlink()
    error = error_of(root)
    assert (error.code, error.where) == ("file-missing", "recipes/toolchain.yml:3:7")
    project = load_project(root, locks=False)
    assert project.recipes["toolchain"].lock is None


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_called_like_a_recipe_and_is_no_file(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(sample.write(tmp_path) / "recipes/x.yml")
    error = error_of(tmp_path)
    assert (error.code, error.where) == ("recipe-syntax", "recipes/x.yml")
    assert error.hint
