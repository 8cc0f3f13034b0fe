"""Provenance and bill of materials of a realised target: written, signed, and checked again.

Provenance is an in-toto statement; signed, it is the payload of a DSSE envelope. A bill of materials is an SPDX
document; its signature is a text beside it, `<key name>:<base64>` as Nix writes one, over the document's bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

from ccstore.build.origins import origins_of
from ccstore.build.workspace import Workspace
from ccstore.codec import dsse
from ccstore.codec.signing import PublicKey, SecretKey, trusted
from ccstore.errors import CcError
from ccstore.export import provenance, sbom
from ccstore.model.hashes import Sha256
from ccstore.model.signature import Signature

Kind = Literal["provenance", "sbom"]
SIGNATURE = ".sig"  # after the name of a bill of materials
_HOW = "`ccstore export TARGET --provenance --key FILE` writes one that is signed"


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found of a document: who signed it, the object that it is about, and whether it says what this project
    and store say of that, to the letter."""

    kind: Kind
    key: str
    path: str
    same: bool


def write(work: Workspace, target: str, kind: Kind) -> bytes:
    """The document of a realised target. Raises `not-realised`, and `usage` for a target that nothing builds."""
    origins = origins_of(work, target)
    make = provenance.statement if kind == "provenance" else sbom.document
    return (json.dumps(make(origins, version("ccstore")), indent=1, ensure_ascii=False) + "\n").encode()


def enveloped(statement: bytes, key: SecretKey) -> bytes:
    """A statement in its envelope, signed."""
    return dsse.Envelope(provenance.PAYLOAD, statement).signed(key).encode()


def detached(document: bytes, key: SecretKey) -> bytes:
    """The signature for the file beside a document."""
    return f"{key.sign(document)}\n".encode()


def check(
    work: Workspace, target: str, document: bytes, signature: bytes | None, keys: Iterable[PublicKey]
) -> Checked:
    """Whether one of `keys` signed the document, and whether it is about `target` as it is realised here.

    `signature` is what lies beside a bill of materials. Raises `signature-invalid`, `hash-mismatch` for a document
    about something else, and what `write` raises.
    """
    keys = list(keys)
    value = _parsed(document)
    kind: Kind = "sbom" if "spdxVersion" in value else "provenance"
    if kind == "sbom":
        key, text = _signer_of_sbom(document, signature, keys), document
    else:
        key, text = _signer_of_envelope(document, keys)
    info = work.require_realised(target).object
    about = _about(kind, _parsed(text))
    if about != (info.path.base, info.nar_hash.hex):
        raise CcError(
            "hash-mismatch",
            f"the document is about another object than {target}",
            details=(f"it is about {about[0]}", f"here is    {info.path.base}"),
            hint="take the document of what you have, or realise what the document is about",
        )
    return Checked(kind, key, info.path.logical, text == write(work, target, kind))


def _parsed(document: bytes) -> dict[str, Any]:
    try:
        value = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"this is no document that ccstore writes: {error}", _HOW) from error
    if not isinstance(value, dict):
        raise _invalid("this is no document that ccstore writes", _HOW)
    return value


def _signer_of_envelope(document: bytes, keys: list[PublicKey]) -> tuple[str, bytes]:
    try:
        envelope = dsse.decode(document)
    except ValueError as error:
        raise _invalid(f"the document bears no signature: {error}", _HOW) from error
    if envelope.payload_type != provenance.PAYLOAD:
        raise _invalid(f"the envelope holds {envelope.payload_type!r}, not a statement of in-toto", _HOW)
    signature = envelope.signature_of(keys)
    if signature is None:
        raise _untrusted(envelope.signatures, keys)
    return signature.name, envelope.payload


def _signer_of_sbom(document: bytes, text: bytes | None, keys: list[PublicKey]) -> str:
    if text is None:
        hint = f"it belongs into a file beside the document, of the same name with {SIGNATURE} at its end"
        raise _invalid("the bill of materials has no signature", hint)
    try:
        found = [Signature.parse(line) for line in text.decode("ascii").splitlines()]
    except ValueError as error:
        raise _invalid(f"the signature cannot be read: {error}", "get the file again") from error
    signature = trusted(found, keys, document)
    if signature is None:
        raise _untrusted(found, keys)
    return signature.name


def _untrusted(signatures: Iterable[Signature], keys: list[PublicKey]) -> CcError:
    """Another key's, or of another document."""
    found = sorted({each.name for each in signatures})
    wanted = sorted({each.name for each in keys})
    if set(found) & set(wanted):
        hint = "the document was changed after it was signed, or another key has that name: get both again"
    else:
        hint = "if you trust that key, give it: --key FILE"
    return CcError(
        "signature-invalid",
        "no key that is trusted signed the document as it is",
        details=(f"wanted: {', '.join(wanted) or 'none'}", f"found:  {', '.join(found) or 'none'}"),
        hint=hint,
    )


def _about(kind: Kind, value: dict[str, Any]) -> tuple[str, str]:
    """The base name of the object that a document is about, and its NAR hash in hex; empty where it has none."""
    try:
        if kind == "provenance":
            first = value["subject"][0]
            return str(first["name"]), str(first["digest"]["narSha256"])
        references = {
            each["referenceType"]: each["referenceLocator"] for each in value["packages"][0]["externalRefs"]
        }
        base = str(references["nix-store-path"]).rpartition("/")[2]
        return base, Sha256.parse(str(references["nar-sha256"])).hex
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        return "nothing that ccstore writes of", ""


def _invalid(message: str, hint: str) -> CcError:
    return CcError("signature-invalid", message, hint=hint)
