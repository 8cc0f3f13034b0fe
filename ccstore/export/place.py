"""Where an export is written: a new file or folder that appears when it is whole."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ccstore.codec.oci import LAYOUT_FILE, Reference, blob_path
from ccstore.errors import CcError
from ccstore.export.archive import named_index
from ccstore.export.image import Image
from ccstore.ports import Tree


@contextmanager
def new(path: Path) -> Iterator[Path]:
    """A name beside `path`, which becomes `path` when the block ends well and goes when not.

    Raises `output-exists`, `disk-full`, and `output-refused` where nothing can be written.
    """
    if os.path.lexists(path):
        raise CcError("output-exists", f"{path} is there already", hint="remove it, or give another --output")
    part = path.absolute().with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some space there, or give another --output"
            raise CcError("disk-full", f"no space left while writing {path}", hint=hint) from error
        raise CcError(
            "output-refused",
            f"{path} cannot be written: {error.strerror or error}",
            hint="give --output a place that you may write to",
        ) from error
    finally:
        _remove(part)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_layout(image: Image, names: list[Reference], to: Path) -> None:
    """The image as an OCI layout in the new folder `to`."""
    blob_path(to, image.descriptor.digest).parent.mkdir(parents=True)
    for blob in (image.descriptor, *image.blobs()):
        shutil.copyfile(image.path(blob), blob_path(to, blob.digest))
    (to / "oci-layout").write_bytes(LAYOUT_FILE)
    (to / "index.json").write_bytes(named_index(image, names))


def write_tree(tree: Tree, to: Path) -> None:
    """A writable copy of an object, with ordinary modes."""
    for entry in tree.entries():
        place = to / entry.path if entry.path else to
        if entry.type == "directory":
            place.mkdir()
        elif entry.type == "symlink":
            place.symlink_to(entry.target)
        else:
            shutil.copyfile(tree.path / entry.path if entry.path else tree.path, place)
            place.chmod(0o755 if entry.executable else 0o644)
