"""An OCI image is refused as ImageWrong, or becomes a tree that can be written as an archive and read again.

The first byte says what the text is: a layer (`L`; `G` gzipped, `Z` by zstd), the layer over another one (`U`),
the image's configuration (`C`), its manifest (`M`) or the layout's index (`I`). Digests are right, so that the
readers behind them are met.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import zstandard

from ccstore.builders import guest_tree
from ccstore.builders.guest_blobs import Budget
from ccstore.builders.guest_layers import ImageWrong, read_image
from tests.builders.images import digest_of, gzipped, plain, put_blob, write_layout
from tests.builders.tars import file, folder, symlink, tar
from tests.fuzz.mend import tar_headers
from tests.fuzz.target import Target
from tests.fuzz.targets import tar as tar_target

LOWER = tar(
    [folder("etc"), file("etc/a", b"1"), symlink("run", "/etc"), symlink("loop", "loop"), file("d/e/f")]
)
COMPRESS = {b"L": plain, b"G": gzipped, b"Z": zstandard.compress, b"U": plain}
CODES = ("archive-refused", "image-corrupt")


def run(data: bytes, work: Path) -> bool:
    layout, scratch = work / "image", work / "scratch"
    layout.mkdir()
    scratch.mkdir()
    _write(layout, data[:1], data[1:])
    try:
        found = read_image(layout, scratch, Budget(size=1 << 20, headers=1 << 20, entries=1000))
    except ImageWrong as wrong:
        if wrong.code not in CODES:
            raise
        return False
    guest_tree.write_tar(found.tree, work / "again.tar", 1)
    _check(found.tree, work)
    return True


def _check(tree: guest_tree.Tree, work: Path) -> None:
    """What is written is read back as the same tree."""
    layout, scratch = work / "image-again", work / "scratch-again"
    layout.mkdir()
    scratch.mkdir()
    again = read_image(write_layout(layout, [(work / "again.tar").read_bytes()]), scratch).tree
    assert [_shown(*each) for each in again.root.walk("")] == [_shown(*each) for each in tree.root.walk("")]


def _shown(path: str, node: guest_tree.Node) -> tuple[Any, ...]:
    return path, node.kind, node.mode, node.uid, node.gid, node.target, node.body.read(), node.device


def _write(layout: Path, kind: bytes, text: bytes) -> None:
    if kind in COMPRESS:
        layers = [LOWER, text] if kind == b"U" else [text]
        write_layout(layout, layers, {"Cmd": ["/a"]}, compress=COMPRESS[kind])
    elif kind == b"C":
        write_layout(layout, [LOWER])
        _describe(
            layout,
            json.dumps({"config": put_blob(layout, text), "layers": [put_blob(layout, LOWER)]}).encode(),
        )
    elif kind == b"M":
        write_layout(layout, [LOWER])
        _describe(layout, text)
    else:
        (layout / "index.json").write_bytes(text)


def _describe(layout: Path, manifest: bytes) -> None:
    (layout / "index.json").write_text(json.dumps({"manifests": [put_blob(layout, manifest)]}))


def _mend(data: bytes) -> bytes:
    return data[:1] + tar_headers(data[1:]) if data[:1] in COMPRESS else data


def _config(**config: Any) -> bytes:
    return b"C" + json.dumps({"config": config, "rootfs": {"diff_ids": [digest_of(LOWER)]}}).encode()


WHITEOUTS = tar(
    [file("etc/.wh.a", b""), file("d/.wh..wh..opq", b""), file("run/new"), file("run/.wh.x", b"")]
)
SEEDS = {f"layer-{name}": b"L" + data for name, data in tar_target.SEEDS.items()} | {
    "gzip": b"G" + LOWER,
    "zstd": b"Z" + LOWER,
    "over": b"U" + WHITEOUTS,
    "links": b"U" + tar_target.SEEDS["links"],
    "config": _config(Cmd=["/a"], Env=["A=b"], WorkingDir="/", User="1:1", Labels={"a": "b"}),
    "manifest": b'M{"config":{"digest":"sha256:00"},"layers":[{"digest":"sha256:11","size":3}]}',
    "index": b'I{"manifests":[{"digest":"sha256:00","platform":{"os":"linux","architecture":"amd64"}}]}',
}
TARGET = Target(
    run,
    SEEDS,
    tokens=(*tar_target.TARGET.tokens, b".wh.", b".wh..wh..opq", b"SCHILY.xattr.user.a=b", b'"digest"', b'"size"',
            b'"layers"', b'"config"', b'"platform"', b"[[[[", b"null", b"1e999", b"\\ud800"),
    max_size=8192,
    mend=_mend,
)  # fmt: skip
