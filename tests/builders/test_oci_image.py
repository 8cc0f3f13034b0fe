"""oci_image: a canonical layout with the same digest each time, from a kernel and from a root."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ccstore.builders import oci_image
from ccstore.codec.nar import nar_hash
from ccstore.codec.oci import (
    LAYOUT_FILE,
    Descriptor,
    Manifest,
    blob_path,
    index_json,
    parse_config,
    parse_index,
    parse_manifest,
)
from ccstore.model.hashes import Sha256
from ccstore.recipe.lower_kernel import image_request
from ccstore.recipe.scripts import scripts
from tests.builders.conftest import Built, MakeStep


def kernel(folder: Path, *, modules: bool) -> dict[str, Path]:
    """The two outputs of a kernel, small."""
    files = {
        "kernel/vmlinux": "uncompressed",
        "kernel/bzImage": "compressed",
        "kernel/kernel-source-info": "name: linux\nversion: 6.1.2\nrelease: 6.1.2-guest\n",
        "dev/usr/include/linux/types.h": "typedef int __u32;\n",
        "dev/build/Makefile": "all:\n",
        "dev/build/scripts/tool": "#!/bin/sh\n",
    }
    if modules:
        files["kernel/lib/modules/6.1.2-guest/kernel/a.ko"] = "module"
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "dev/build/scripts/tool").chmod(0o555)
    (folder / "kernel/vmlinux").chmod(0o555)
    (folder / "dev/build/link").symlink_to("scripts/tool")
    return {"kernel": folder / "kernel", "dev": folder / "dev"}


def build(step: MakeStep, request: str, inputs: dict[str, Path], **env: str) -> Built:
    builder = step("/usr/bin/python3", "/in/.builder/oci_image.py", files=("oci_image.py",))
    made = builder.run(inputs, env, texts={"oci.json": request})
    assert isinstance(made, Built)
    return made


def opened(layout: Path) -> tuple[Manifest, dict[str, Any], dict[str, bytes]]:
    """Manifest, config and the files of all layers of a layout, after checking that it is whole and canonical."""
    assert (layout / "oci-layout").read_bytes() == LAYOUT_FILE
    index = (layout / "index.json").read_bytes()
    [entry] = parse_index(index, "it") or ()
    data = blob_path(layout, entry.digest).read_bytes()
    assert index == index_json(Descriptor(entry.media_type, Sha256.of(data), len(data)))
    manifest = parse_manifest(data, "it")
    config = blob_path(layout, manifest.config.digest).read_bytes()
    files: dict[str, bytes] = {}
    diff_ids = []
    for each in manifest.layers:
        content = blob_path(layout, each.digest).read_bytes()
        assert len(content) == each.size
        assert Sha256.of(content) == each.digest
        diff_ids.append(Sha256.of(gzip.decompress(content)))
        files |= unpacked(gzip.decompress(content))
    assert parse_config(config, "it") == tuple(diff_ids)
    names = {path.name for path in (layout / "blobs/sha256").iterdir()}
    assert names == {entry.digest.hex, *(each.digest.hex for each in manifest.blobs())}
    return manifest, json.loads(config), files


def unpacked(data: bytes) -> dict[str, bytes]:
    """Files by name, folders with a slash, links with an arrow; everything in a layer is root's and of no day."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            assert (member.uid, member.gid, member.uname, member.mtime) == (0, 0, "", 1)
            if content := tar.extractfile(member) if member.isfile() else None:
                assert member.mode in (0o644, 0o755)
                found[member.name] = content.read()
            else:
                found[f"{member.name} -> {member.linkname}" if member.issym() else f"{member.name}/"] = b""
    return found


@pytest.mark.parametrize("modules", [False, True])
def test_a_kernel_as_an_image(step: MakeStep, tmp_path: Path, modules: bool) -> None:
    request = image_request("kernel", {"title": "kernel"})
    built = build(step, request, kernel(tmp_path, modules=modules))
    manifest, config, files = opened(built.out)
    assert config["config"]["Labels"] == {
        "org.opencontainers.image.title": "kernel",
        "org.opencontainers.image.version": "6.1.2",
    }
    assert config["created"] == "1970-01-01T00:00:01Z"
    assert len(manifest.layers) == 4
    assert set(files) == {
        *("kernel", "bzImage", "kernel-source-info", "kernel.tar", "kernel-headers.tar", "kernel-dev.tar"),
    }
    assert files["kernel"] == b"uncompressed"
    assert unpacked(files["kernel-headers.tar"])["usr/include/linux/types.h"] == b"typedef int __u32;\n"
    dev = unpacked(files["kernel-dev.tar"])
    assert dev["usr/src/linux-headers-6.1.2-guest/Makefile"] == b"all:\n"
    assert "usr/src/linux-headers-6.1.2-guest/link -> scripts/tool" in dev
    inside = unpacked(files["kernel.tar"])
    assert "lib/modules/6.1.2-guest/" in inside
    assert ("lib/modules/6.1.2-guest/kernel/a.ko" in inside) == modules


def test_a_root_as_an_image(step: MakeStep, tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()
    with tarfile.open(rootfs / "rootfs.tar", "w") as tar:
        member = tarfile.TarInfo("dev/null")
        member.type, member.devmajor, member.devminor, member.mtime = tarfile.CHRTYPE, 1, 3, 1
        tar.addfile(member)
    request = image_request("root", {"title": "guest"}, ["/init"])
    manifest, config, _ = opened(build(step, request, {"rootfs": rootfs}).out)
    [layer] = manifest.layers
    assert config["config"]["Entrypoint"] == ["/init"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{Sha256.of((rootfs / 'rootfs.tar').read_bytes()).hex}"]
    assert layer.media_type == oci_image.LAYER


def test_the_digest_is_the_same_each_time(step: MakeStep, tmp_path: Path) -> None:
    request = image_request("kernel", {"title": "kernel"})
    one = build(step, request, kernel(tmp_path / "one", modules=True))
    inputs = kernel(tmp_path / "other", modules=True)
    for path in (tmp_path / "other").rglob("*"):
        os.utime(path, (1e9, 1e9), follow_symlinks=False)
    other = build(step, request, inputs)
    assert nar_hash(one.out) == nar_hash(other.out)
    later = build(step, request, inputs, SOURCE_DATE_EPOCH="2")
    assert nar_hash(later.out) != nar_hash(one.out)


def test_an_image_that_is_too_large(step: MakeStep, tmp_path: Path) -> None:
    request = image_request("kernel", {}, max_size=100)
    built = build(step, request, kernel(tmp_path, modules=False))
    assert built.exit_status != 0
    assert built.report["code"] == "image-too-large"


def test_the_request_is_what_the_builder_reads() -> None:
    assert json.loads(image_request("root", {"title": "x"})) == {
        "image": "root",
        "labels": {"org.opencontainers.image.title": "x"},
        "entrypoint": None,
        "maxSize": None,
    }
    assert set(scripts("oci_image.py")) == {"oci_image.py"}
