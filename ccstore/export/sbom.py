"""A bill of materials: an SPDX document of everything that an object was made of.

Source: SPDX 2.3, JSON serialisation. Each thing that was downloaded or built is a package; how they belong together:

    DESCRIBES        the document: the object that it is about
    CONTAINS         an object: its files; a tree: its Debian packages; a guest's image: its kernel, init and parts
    GENERATED_FROM   what was compiled: its sources, patches and configuration
    BUILD_TOOL_OF    a toolchain, and each Debian package in it: what was built with it

Licences are NOASSERTION: nobody looked at them here. `created` is the time that the build took for its own
(SOURCE_DATE_EPOCH), and the namespace follows from what the document says, so that whoever builds the same writes
the same.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from ccstore.export.origins import Material, Origins, Product, Role

DOCUMENT = "SPDXRef-DOCUMENT"
NOTHING = "NOASSERTION"
_PURPOSES = {"file": "ARCHIVE", "git": "SOURCE", "image": "CONTAINER", "local": "FILE"}
_RELATIONS: dict[Role, str] = {"part": "CONTAINS", "source": "GENERATED_FROM", "tool": "BUILD_TOOL_OF"}


def document(origins: Origins, version: str) -> dict[str, Any]:
    """`version` is that of ccstore."""
    keys = [each.key for each in origins.products] + [each.key for each in origins.materials]
    names = _Names(keys)
    packages = [_product(each, names) for each in reversed(origins.products)]
    packages += [_material(each, names) for each in origins.materials]
    if origins.files:
        packages[0] |= {"filesAnalyzed": True, "packageVerificationCode": _verification_code(origins)}
    found = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": origins.product.object.path.name,
        "creationInfo": {"created": _time(origins.epoch), "creators": [f"Tool: ccstore-{version}"]},
        "packages": packages,
        "files": _files(origins),
        "relationships": _relationships(origins, names),
    }
    return {**found, "documentNamespace": _namespace(found)}


def _verification_code(origins: Origins) -> dict[str, str]:
    """SPDX 2.3, 7.9: of the SHA-1 of every file, in the order of these digests."""
    text = "".join(sorted(each.sha1 for each in origins.files))
    return {"packageVerificationCodeValue": hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()}


def _time(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _namespace(found: dict[str, Any]) -> str:
    """Another document has another one, as SPDX demands."""
    digest = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(found, sort_keys=True))
    return f"https://spdx.org/spdxdocs/{found['name']}-{digest}"


class _Names:
    """SPDX identifiers for keys; different keys have different ones."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._found: dict[str, str] = {}
        taken: set[str] = set()
        for key in keys:
            name = plain = "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]+", "-", key.removeprefix("./"))
            count = 1
            while name in taken:
                count += 1
                name = f"{plain}-{count}"
            taken.add(name)
            self._found[key] = name

    def __getitem__(self, key: str) -> str:
        return self._found[key]


def _package(key: str, name: str, names: _Names, **more: Any) -> dict[str, Any]:
    return {
        "SPDXID": names[key],
        "name": name,
        "downloadLocation": NOTHING,
        "filesAnalyzed": False,
        "licenseConcluded": NOTHING,
        "licenseDeclared": NOTHING,
        "copyrightText": NOTHING,
        "supplier": NOTHING,
        **{field: value for field, value in more.items() if value},
    }


def _product(product: Product, names: _Names) -> dict[str, Any]:
    info = product.object
    references = [
        _reference("OTHER", "nix-store-path", info.path.logical),
        _reference("OTHER", "nar-sha256", info.nar_hash.sri),
        _reference("OTHER", "ccstore-realisation", str(product.id)),
    ]
    return _package(product.key, product.name, names, versionInfo=product.version, externalRefs=references)


def _material(material: Material, names: _Names) -> dict[str, Any]:
    references = [_reference("PACKAGE-MANAGER", "purl", material.purl)] if material.purl else []
    checksums = [_checksum("SHA256", material.sha256.hex)] if material.sha256 else []
    if not checksums:
        references.append(_reference("OTHER", "nar-sha256", material.nar_hash.sri))
    return _package(
        material.key,
        material.name,
        names,
        versionInfo=material.version or material.commit,
        downloadLocation=_location(material),
        checksums=checksums,
        externalRefs=references,
        supplier="Organization: Debian" if material.kind == "package" else "",
        primaryPackagePurpose=_PURPOSES.get(material.kind),
        sourceInfo=f"from {', '.join(material.urls)}" if material.urls else "a file of the project",
    )


def _location(material: Material) -> str:
    """Where everybody can get it; what `mirror://` stands for is for each to say."""
    if material.kind == "git":
        return f"git+{material.urls[0]}@{material.commit}" if "://" in material.urls[0] else ""
    return next((each for each in material.urls if each.startswith(("https://", "http://"))), "")


def _reference(category: str, kind: str, locator: str) -> dict[str, str]:
    return {"referenceCategory": category, "referenceType": kind, "referenceLocator": locator}


def _checksum(algorithm: str, value: str) -> dict[str, str]:
    return {"algorithm": algorithm, "checksumValue": value}


def _files(origins: Origins) -> list[dict[str, Any]]:
    return [
        {
            "SPDXID": _file_id(number),
            "fileName": f"./{each.path or origins.product.name}",
            "checksums": [_checksum("SHA1", each.sha1), _checksum("SHA256", each.sha256)],
            "licenseConcluded": NOTHING,
            "copyrightText": NOTHING,
        }
        for number, each in enumerate(origins.files, 1)
    ]


def _file_id(number: int) -> str:
    return f"SPDXRef-File-{number}"


def _relationships(origins: Origins, names: _Names) -> list[dict[str, str]]:
    root = names[origins.product.key]
    found = [(DOCUMENT, "DESCRIBES", root)]
    found += [(root, "CONTAINS", _file_id(number)) for number in range(1, len(origins.files) + 1)]
    for use in origins.uses:
        user, used = names[use.user], names[use.used]
        pair = (used, user) if use.role == "tool" else (user, used)
        found.append((pair[0], _RELATIONS[use.role], pair[1]))
    return [
        {"spdxElementId": one, "relationshipType": relation, "relatedSpdxElement": other}
        for one, relation, other in dict.fromkeys(found)
    ]
