"""Files of keys: the secret one, readable by its owner alone, and beside it `<file>.pub`, which is for everybody.

Both hold one line without an end of line, as Nix writes them, so Nix can use ours and we can use Nix's.
"""

from __future__ import annotations

import os
from pathlib import Path

from ccstore.codec.signing import PublicKey, SecretKey
from ccstore.errors import CcError

_LIMIT = 4096
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_KEYGEN = "`ccstore cache keygen NAME FILE` makes a pair of keys"


def write_pair(key: SecretKey, file: Path) -> Path:
    """Writes the secret key to `file` (mode 0600) and the public one beside it, whose path is the result.

    Raises CcError `output-exists` rather than replace a key, and `file-missing` where no file can be made.
    """
    public = file.with_name(file.name + ".pub")
    for each in (file, public):
        if os.path.lexists(each):
            hint = "a key that is in use must not get lost: choose another name, or move that file away"
            raise CcError("output-exists", f"{each} is there already", hint=hint)
    try:
        _write(file, key.secret_text(), 0o600)
        _write(public, str(key.public), 0o644)
    except OSError as error:
        hint = "choose a folder that is there and that you may write to"
        raise CcError("file-missing", f"{file} cannot be made: {error.strerror}", hint=hint) from error
    return public


def _write(file: Path, text: str, mode: int) -> None:
    with os.fdopen(os.open(file, _NEW, mode), "w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())


def read_secret(file: Path) -> SecretKey:
    """The secret key in `file`, which may be a pipe. Raises CcError `key-invalid`, `file-missing`."""
    text = _read(file)
    try:
        return SecretKey.parse(text)
    except ValueError as error:
        raise CcError("key-invalid", f"not a secret key: {error}", where=str(file), hint=_KEYGEN) from error


def read_public(file: Path) -> PublicKey:
    """The public key in `file`; a secret key's own will do. Raises as `read_secret`."""
    text = _read(file)
    try:
        return SecretKey.parse(text).public
    except ValueError:
        return parse_public(text, str(file))


def parse_public(text: str, where: str | None = None) -> PublicKey:
    """The public key that `text` is. Raises CcError `key-invalid`."""
    try:
        return PublicKey.parse(text)
    except ValueError as error:
        hint = "a public key is one line, <name>:<44 characters>: the content of the .pub file"
        raise CcError("key-invalid", f"not a public key: {error}", where=where, hint=hint) from error


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(_LIMIT + 1)
    except OSError as error:
        message = f"the key {file} cannot be read: {error.strerror or error}"
        raise CcError("file-missing", message, hint=_KEYGEN) from error
    if len(data) > _LIMIT:
        raise CcError("key-invalid", "too long for a key", where=str(file), hint=_KEYGEN)
    return data.decode(errors="replace").strip()
