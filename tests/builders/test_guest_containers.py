"""guest_root.py and guest_spec.py: containers, volumes, and what images say of themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ccstore.builders import guest_tree
from tests.builders.guestkit import Kit, tree
from tests.builders.images import image
from tests.builders.tars import entry, file, folder, symlink


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit(tmp_path)


# containers


def test_a_container_that_may_write(kit: Kit) -> None:
    kit.serve(onExit="restart")
    assert kit.run() == ["overlay /containers/images/box", "on-exit restart"]
    assert kit.config()["root"] == {"path": "/run/containers/services/s0/rootfs", "readonly": False}


def test_a_container_that_may_not(kit: Kit) -> None:
    kit.serve(readonly=True, tmpfs=["/scratch"], binds=["/dev:/host/dev", "/etc/passwd:/etc/passwd"])
    assert kit.run() == ["root /containers/images/box"]
    assert kit.config()["root"] == {"path": "/containers/images/box", "readonly": True}
    root = kit.build().tree
    for path in ("proc", "sys", "dev", "scratch", "host/dev"):
        node = root.find(f"containers/images/box/{path}")
        assert node is not None
        assert node.is_folder
    node = root.find("containers/images/box/etc/passwd")
    assert node is not None
    assert node.kind == guest_tree.FILE


def test_a_mount_point_for_a_file_of_the_description(kit: Kit) -> None:
    kit.guest["files"] = [{"path": "etc/resolv.conf", "contents": ""}]
    kit.serve(binds=["/etc/resolv.conf:/etc/resolv.conf"])
    node = kit.build().tree.find("containers/images/box/etc/resolv.conf")
    assert node is not None
    assert node.kind == guest_tree.FILE


def test_an_image_is_there_once(kit: Kit) -> None:
    kit.serve()
    kit.serve()
    kit.guest["onboot"] = [{"name": "first", "image": "box", "command": ["x"]}]
    with kit.archive() as archive:
        names = archive.getnames()
    assert names.count("containers/images/box/bin/tool") == 1
    assert {
        "containers/services/000-s0/run",
        "containers/services/001-s1/run",
        "containers/onboot/000-first/run",
    } < set(names)


def test_what_init_does_before(kit: Kit) -> None:
    kit.serve(
        runtime={
            "mkdir": ["/run/a"],
            "mounts": [{"type": "tmpfs", "destination": "/mnt/a", "options": ["ro", "size=1m"]}],
            "bindNS": {"net": "/run/ns/net"},
            "cgroups": ["agents"],
        }
    )
    assert kit.run() == [
        "overlay /containers/images/box",
        "mount tmpfs tmpfs /mnt/a ro,size=1m",
        "mkdir /run/a",
        "bind-ns net /run/ns/net",
        "cgroup agents",
    ]


def test_what_init_makes_is_there_already_on_a_read_only_root(kit: Kit) -> None:
    mounts = [{"type": "tmpfs", "destination": "/mnt/a"}]
    runtime = {
        "mounts": mounts,
        "mkdir": ["/mnt/b", "/run/c"],
        "bindNS": {"net": "/mnt/net", "uts": "/run/uts"},
    }
    kit.serve(runtime=runtime)
    found = dict(kit.build().tree.root.walk(""))
    assert found["mnt/a"].is_folder
    assert found["mnt/b"].is_folder
    assert not found["mnt/net"].is_folder
    assert not any(path.startswith("run/") for path in found)


def test_users_by_name(kit: Kit) -> None:
    tree(kit.inputs / "image-01", {"etc/passwd": "# none\nweb:x:1033:1034::/:\nweb2:x:bad:\n"})
    kit.guest["onboot"] = [{"name": "first", "image": "box", "command": ["x"]}]
    kit.serve(uid="web", gid="s0", additionalGids=["audio", 5])
    assert kit.config()["process"]["user"] == {"uid": 1033, "gid": 101, "additionalGids": [29, 5]}
    kit.serve(uid="nobody-knows")
    found = kit.error()
    assert (found.code, found.place) == ("recipe-invalid", "services.1.uid")


def test_a_bind_of_what_is_not_there(kit: Kit) -> None:
    kit.serve(binds=["/dev:/dev", "/etc/nothing:/x"])
    found = kit.error()
    assert (found.code, found.place) == ("path-missing", "services.0.binds.1")
    assert "mkdir" in str(found.hint)


def test_a_bind_of_what_a_container_makes_at_its_start(kit: Kit) -> None:
    kit.guest["onboot"] = [
        {"name": "first", "image": "box", "command": ["x"], "runtime": {"mkdir": ["/mnt/made"]}}
    ]
    kit.serve(binds=["/mnt/made/below:/x", "/run/socket:/run/socket"])
    kit.build()


def test_a_mount_that_binds_what_is_not_there(kit: Kit) -> None:
    kit.serve(mounts=[{"type": "bind", "source": "/etc/nothing", "destination": "/x", "options": ["rbind"]}])
    assert kit.error().place == "services.0.mounts.0"


# volumes


def test_a_volume_that_is_written_to_is_overlaid_once(kit: Kit) -> None:
    kit.guest["volumes"] = [{"name": "data", "image": "box", "readonly": False}]
    kit.serve(binds=["data:/data"])
    kit.serve(binds=["data:/data:ro"])
    base = "/run/containers/volumes/data"
    assert kit.run() == [
        "overlay /containers/images/box",
        f"mkdir {base}/upper",
        f"mkdir {base}/work",
        f"mount overlay overlay {base}/merged "
        f"lowerdir=/containers/volumes/data,upperdir={base}/upper,workdir={base}/work",
    ]
    assert kit.run("services/001-s1") == ["overlay /containers/images/box"]
    [mount] = [each for each in kit.config()["mounts"] if each["destination"] == "/data"]
    assert mount == {
        "destination": "/data",
        "type": "bind",
        "source": f"{base}/merged",
        "options": ["rw", "rbind", "rshared"],
    }
    assert kit.text("containers/volumes/data/bin/tool") == "t" * 5000


def test_a_read_only_volume_is_used_where_it_is(kit: Kit) -> None:
    kit.guest["volumes"] = [{"name": "fixed", "readonly": True}]
    kit.serve(binds=["fixed:/fixed:ro"])
    [mount] = [each for each in kit.config()["mounts"] if each["destination"] == "/fixed"]
    assert (mount["source"], mount["options"]) == ("/containers/volumes/fixed", ["ro", "rbind"])
    assert kit.build().tree.find("containers/volumes/fixed") is not None


def test_a_volume_that_holds_a_layout(kit: Kit) -> None:
    image(kit.inputs / "image-02", [file("a")])
    kit.guest["images"]["foreign"] = "image-02"
    kit.guest["volumes"] = [{"name": "images", "image": "foreign", "readonly": True, "format": "oci"}]
    assert "manifests" in kit.text("containers/volumes/images/index.json")
    kit.guest["volumes"][0]["image"] = "box"
    assert kit.error().place == "volumes.0.image"


# images


LABEL = {
    "capabilities": ["CAP_KILL"],
    "binds": ["/etc/passwd:/etc/passwd"],
    "readonly": True,
    "runtime": {"mkdir": ["/run/labelled"]},
}


def foreign(kit: Kit, config: dict[str, Any]) -> None:
    """Makes `box` an OCI image."""
    shutil.rmtree(kit.inputs / "image-01")
    passwd = entry("etc/passwd", b"app:x:7:8::/:\n")
    image(
        kit.inputs / "image-01",
        [folder("etc"), passwd, file("bin/tool"), symlink("var", "/tmp")],
        config=config,
    )


def test_what_an_image_says(kit: Kit) -> None:
    labels = {"org.mobyproject.config": json.dumps(LABEL)}
    config = {
        "Entrypoint": ["/bin/tool"],
        "Cmd": ["-v"],
        "Env": ["A=1"],
        "WorkingDir": "/etc",
        "User": "app:5",
    }
    foreign(kit, {**config, "Labels": labels})
    kit.guest["services"] = [{"name": "s0", "image": "box"}]
    found = kit.config()
    assert found["process"]["args"] == ["/bin/tool", "-v"]
    assert found["process"]["env"] == ["A=1"]
    assert found["process"]["cwd"] == "/etc"
    assert found["process"]["user"] == {"uid": 7, "gid": 5}
    assert found["process"]["capabilities"]["effective"] == ["CAP_KILL"]
    assert found["root"]["readonly"] is True
    assert kit.run() == ["root /containers/images/box", "mkdir /run/labelled"]


def test_the_description_counts_more_than_the_image(kit: Kit) -> None:
    labels = {"org.mobyproject.config": json.dumps(LABEL)}
    foreign(kit, {"Cmd": ["/bin/other"], "Env": ["A=1"], "User": "app", "Labels": labels})
    kit.serve(
        env=["B=2"], uid=3, readonly=False, **{"capabilities.add": ["CAP_CHOWN"], "binds.add": ["/dev:/dev"]}
    )
    found = kit.config()
    assert found["process"]["args"] == ["/bin/tool"]
    assert found["process"]["env"] == ["B=2"]
    assert found["process"]["user"]["uid"] == 3
    assert found["process"]["capabilities"]["bounding"] == ["CAP_CHOWN", "CAP_KILL"]
    assert {each["destination"] for each in found["mounts"] if each["type"] == "bind"} == {
        "/dev",
        "/etc/passwd",
    }


@pytest.mark.parametrize(
    ("label", "word"),
    [
        ('{"capabilities": ["CAP_NONE"]}', "CAP_NONE"),
        ('{"runtime": {"interfaces": [{"name": "x"}]}}', "interfaces"),
        ('{"binds": ["/etc/nothing:/x"]}', "/etc/nothing"),
        ('{"userns": "new"}', "userns"),
        ('{"resources": {"devices": [{"allow": false, "type": "a"}]}}', "BPF"),
    ],
)
def test_a_label_that_is_wrong(kit: Kit, label: str, word: str) -> None:
    foreign(kit, {"Cmd": ["x"], "Labels": {"org.mobyproject.config": label}})
    kit.serve()
    found = kit.error()
    assert found.code in ("recipe-invalid", "unsupported-field", "path-missing")
    assert found.place.startswith("services.0")
    assert word in found.message


@pytest.mark.parametrize(
    ("label", "word"),
    [
        ("{", "JSON"),
        ("[" * 100_000, "JSON"),
        ("[]", "mapping"),
        ('{"name": "x"}', "name"),
        ('{"capabilties": []}', "capabilties"),
        ('{"binds": "x"}', "binds"),
        ('{"readonly": "yes"}', "readonly"),
        ('{"devices": [{"path": "/dev/x", "type": "c"}]}', "devices"),
        ('{"devices": [{"path": "/dev/x", "mode": "0600"}]}', "devices"),
        ('{"devices": [{"path": "/dev/x", "type": "c", "mode": "rw"}]}', "devices"),
        ('{"devices": [{"path": "/dev/x", "type": "c", "mode": "0600", "major": "1"}]}', "devices"),
        ('{"mounts": [{"type": "tmpfs", "destination": 1}]}', "mounts"),
        ('{"resources": {"devices": 1}}', "resources"),
        ('{"resources": {"devices": [1]}}', "resources"),
        ('{"runtime": {"mkdir": [1]}}', "runtime"),
        ('{"runtime": {"mounts": 1}}', "runtime"),
        ('{"uid": -1}', "uid"),
        ('{"gid": 4294967295}', "gid"),
        ('{"oomScoreAdj": "0"}', "oomScoreAdj"),
        ('{"uidMappings": [{"size": "1"}]}', "uidMappings"),
    ],
)
def test_a_label_of_another_form(kit: Kit, label: str, word: str) -> None:
    foreign(kit, {"Cmd": ["x"], "Labels": {"org.mobyproject.config": label}})
    kit.serve()
    found = kit.error()
    assert (found.code, found.place, word in found.message) == ("image-corrupt", "services.0.image", True)


def test_the_devices_of_a_label(kit: Kit) -> None:
    label = '{"devices": [{"path": "/dev/x", "type": "c", "major": 1, "mode": "0600"}, {"path": "all", "type": "b"}]}'
    foreign(kit, {"Cmd": ["x"], "Labels": {"org.mobyproject.config": label}})
    kit.serve()
    linux = kit.config()["linux"]
    assert linux["devices"] == [{"path": "/dev/x", "type": "c", "major": 1, "minor": 0, "fileMode": 0o600}]
    assert [rule["type"] for rule in linux["resources"]["devices"]] == ["c", "b"]


@pytest.mark.parametrize("user", ["a b", "1:a b", "-1", str(2**32 - 1), ":/"])
def test_a_user_that_is_none(kit: Kit, user: str) -> None:
    foreign(kit, {"Cmd": ["x"], "User": user})
    kit.serve()
    found = kit.error()
    assert (found.code, found.place) == ("image-corrupt", "services.0.image")


def test_an_image_without_a_command(kit: Kit) -> None:
    foreign(kit, {})
    kit.guest["services"] = [{"name": "s0", "image": "box"}]
    assert kit.error().place == "services.0.name"


def test_a_corrupt_image_is_shown_where_it_is_named(kit: Kit) -> None:
    foreign(kit, {})
    [layer] = [
        each for each in (kit.inputs / "image-01/blobs/sha256").iterdir() if each.stat().st_size > 5000
    ]
    layer.write_bytes(layer.read_bytes()[:-1] + b"x")
    kit.serve()
    found = kit.error()
    assert (found.code, found.place) == ("image-corrupt", "services.0.image")


def test_a_file_is_no_image(kit: Kit) -> None:
    shutil.rmtree(kit.inputs / "image-01")
    (kit.inputs / "image-01").write_text("x")
    kit.serve()
    assert kit.error().place == "services.0.image"
