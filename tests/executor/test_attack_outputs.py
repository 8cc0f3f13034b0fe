"""Outputs that would do harm on the host: what is in the store afterwards, and what the host has to suffer."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ccstore.errors import CcError
from ccstore.executor.sandbox import Sandbox
from ccstore.ports import BuildResult, Cancel
from ccstore.store.session import Session
from ccstore.store.store import Store

from .attacking import Attacks, ended, succeeded
from .test_attack_files import INPUT, state


@contextmanager
def session(place: Path) -> Iterator[tuple[Store, Session]]:
    with Store.open(place / "store") as store, store.session() as one:
        yield store, one


def registered(attacks: Attacks, attack: str, *arguments: object) -> Path:
    """The object that the attack's output becomes. Raises what registration raises."""
    with session(attacks.builds.place) as (store, one):
        result, staging = build(attacks, one, attack, *arguments)
        assert result.outcome == "built"
        return store.objects.path(one.register(staging / "out", "attack").path)


def build(
    attacks: Attacks, one: Session, attack: str, *arguments: object, **options: Any
) -> tuple[BuildResult, Path]:
    request = attacks.request(attack, *arguments, **options)
    log = bytearray()
    result = Sandbox().build(request, log.extend, Cancel())
    print(log.decode())
    return result, request.staging


def victim(place: Path) -> Path:
    folder = place / "victim"
    folder.mkdir()
    (folder / "kept").write_text("s3cret")
    (folder / "kept").chmod(0o640)
    return folder


def modes(path: Path) -> set[int]:
    return {stat.S_IMODE(each.lstat().st_mode) for each in (path, *path.rglob("*")) if not each.is_symlink()}


def test_no_special_bit_gets_into_the_store(attacks: Attacks) -> None:
    place = registered(attacks, "outputs.special_bits")
    assert modes(place) == {0o555, 0o444}
    assert all(os.listxattr(each) == [] for each in (place, *place.rglob("*")))
    assert {each.name for each in place.iterdir()} == {"suid", "sgid", "sticky", "open", "closed", "folder"}


def test_a_set_uid_file_is_nothing_to_others_at_any_moment(attacks: Attacks) -> None:
    """Between the build, in a folder that is closed, and its canonical form it lies where others may look."""
    seen: list[int] = []
    with session(attacks.builds.place) as (store, one):
        _, staging = build(attacks, one, "outputs.suid_file")

        def look(step: str) -> None:
            files = [each for each in store.layout.objects.iterdir() if each.is_file()]
            seen.extend(stat.S_IMODE(each.lstat().st_mode) for each in files)

        info = one.register(staging / "out", "attack", fault=look)
    assert stat.S_IMODE(store.objects.path(info.path).lstat().st_mode) == 0o555
    assert len(seen) > 3
    assert set(seen) <= {0o700, 0o555}


def test_a_set_uid_file_gains_nothing_inside(attacks: Attacks) -> None:
    assert attacks.run("outputs.suid_gains_nothing").log == "1000\n"


def test_no_device_can_be_made(attacks: Attacks) -> None:
    attacks.all_fail("outputs.devices", wanted=8)


@pytest.mark.parametrize("attack", ["fifo", "fifo_alone", "plug", "whiteout", "too_deep"])
def test_what_cannot_be_in_the_store_is_refused_unopened(attacks: Attacks, attack: str) -> None:
    """Whoever opened the FIFO would wait for ever."""
    with pytest.raises(CcError) as caught:
        registered(attacks, f"outputs.{attack}")
    assert caught.value.code == "output-invalid"
    with session(attacks.builds.place) as (store, _):
        assert list(store.objects.all()) == []
        assert list(store.layout.objects.iterdir()) == []


@pytest.mark.parametrize("attack", ["links_to", "link_alone"])
def test_a_link_is_not_followed(attacks: Attacks, attack: str) -> None:
    folder = victim(attacks.builds.place)
    before = state(folder)
    place = registered(attacks, f"outputs.{attack}", folder)
    links = (
        [place]
        if attack == "link_alone"
        else [place / name for name in ("file", "folder", "up", "again", "loop")]
    )
    assert all(each.is_symlink() for each in links)
    assert state(folder) == before


def test_a_link_in_a_view_is_not_filled_with_what_lay_below(attacks: Attacks) -> None:
    """`folder/inside` of the base is not written to where the link `folder` leads."""
    folder = victim(attacks.builds.place)
    before = state(folder)
    with session(attacks.builds.place) as (store, one):
        base = one.add(attacks.builds.tree("input", INPUT).path, "base")
        options = {"inputs": {"input": store.objects.tree(base.path)}, "overlays": {"out": "input"}}
        result, _ = build(attacks, one, "outputs.view_with_a_link", folder, **options)
        info = one.register_overlay(base.path, result.overlays["out"], "view")
        place = store.objects.path(info.path)
    assert (place / "folder").readlink() == folder
    assert (place / "run").read_text() == INPUT["run"]
    assert state(folder) == before


def test_marks_of_an_overlay_are_no_marks_of_the_builds(attacks: Attacks) -> None:
    """What a build says in the words of overlayfs is not taken for overlayfs's own."""
    with session(attacks.builds.place) as (store, one):
        base = one.add(attacks.builds.tree("input", INPUT).path, "base")
        before = state(store.objects.path(base.path))
        options = {"inputs": {"input": store.objects.tree(base.path)}, "overlays": {"out": "input"}}
        result, _ = build(attacks, one, "files.works_on_a_view", **options)
        place = store.objects.path(one.register_overlay(base.path, result.overlays["out"], "view").path)
        assert state(store.objects.path(base.path)) == before
    assert (place / "run").read_text().startswith("changed")
    assert modes(place) == {0o555}
    assert os.listxattr(place / "run") == []


@pytest.mark.parametrize("attack", ["closed_doors", "closed_doors_and_fails"])
def test_folders_that_a_build_closes_are_opened_again(attacks: Attacks, attack: str) -> None:
    with session(attacks.builds.place) as (store, one):
        result, staging = build(attacks, one, f"outputs.{attack}")
        if attack == "closed_doors":
            assert os.listdir(staging) == ["out"]
            assert modes(store.objects.path(one.register(staging / "out", "attack").path)) == {0o555}
        else:
            assert (result.outcome, list(staging.iterdir())) == ("failed", [])


def test_odd_names_stay_names(attacks: Attacks) -> None:
    place = registered(attacks, "outputs.odd_names")
    assert len(list(place.iterdir())) == 9
    assert modes(place) == {0o555, 0o444}


def test_the_attacks_on_outputs_are_what_they_say(attacks: Attacks) -> None:
    """Without registration the bits and links are there: what is asserted above is not for want of trying."""
    done = attacks.run("outputs.special_bits")
    assert stat.S_IMODE((done.request.staging / "out/suid").stat().st_mode) == 0o4755
    assert not succeeded(ended(done.log.splitlines()))
