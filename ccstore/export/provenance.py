"""Provenance: an in-toto statement that says what an object was made of, and how.

Source: in-toto Attestation Framework, Statement v1, ResourceDescriptor and DigestSet; SLSA, Provenance v1. What the
specifications leave open:

    subject                 the object by the base name of its store path, and each of its files
    digest narSha256        SHA-256 of a NAR (Nix Archive), in hex: what a store path is computed from
    buildType               ccstore:derivation/1
    externalParameters      what was asked for: the target, and the recipes that led to it as they were written
    internalParameters      the derivation of the target: its id, builder, environment and sandbox policy
    resolvedDependencies    everything that was not built here: downloads, commits, images, packages, project files
    builder.id              ccstore:<executor>
    byproducts              what the steps on the way gave: ccstore:realisation/<derivation id>^<output>

There is no time in it, and nothing of the machine: whoever builds the same writes the same.
"""

from __future__ import annotations

import hashlib
from typing import Any

from ccstore.export.origins import Material, Origins, Product
from ccstore.model.hashes import Sha256

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
PAYLOAD = "application/vnd.in-toto+json"
BUILD_TYPE = "ccstore:derivation/1"


def statement(origins: Origins, version: str) -> dict[str, Any]:
    """`version` is that of ccstore."""
    return {
        "_type": STATEMENT,
        "subject": subjects(origins),
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"target": origins.target, "recipes": dict(origins.recipes)},
                "internalParameters": _derivation(origins),
                "resolvedDependencies": [_dependency(each) for each in origins.materials],
            },
            "runDetails": {
                "builder": {"id": f"ccstore:{origins.product.executor}", "version": {"ccstore": version}},
                "metadata": {"invocationId": str(origins.product.id)},
                "byproducts": [_byproduct(each) for each in origins.products if each != origins.product],
            },
        },
    }


def subjects(origins: Origins) -> list[dict[str, Any]]:
    """The object, then its files; an object that is a file has both hashes."""
    info = origins.product.object
    whole = {"name": info.path.base, "digest": _nar(info.nar_hash)}
    if len(origins.files) == 1 and not origins.files[0].path:
        return [{**whole, "digest": {"sha256": origins.files[0].sha256, **_nar(info.nar_hash)}}]
    return [whole, *({"name": each.path, "digest": {"sha256": each.sha256}} for each in origins.files)]


def _nar(digest: Sha256) -> dict[str, str]:
    return {"narSha256": digest.hex}


def _derivation(origins: Origins) -> dict[str, Any]:
    derivation = origins.derivation
    return {
        "id": derivation.id,
        "output": origins.product.id.output,
        "purity": origins.product.purity,
        "argv": list(derivation.argv),
        "env": dict(sorted(derivation.env.items())),
        "files": {
            name: {"sha256": hashlib.sha256(text.encode()).hexdigest()}
            for name, text in sorted(derivation.files.items())
        },
        "inputs": {name: _nar(digest) for name, digest in sorted(derivation.inputs.items())},
        "root": _nar(derivation.root) if derivation.root else {},
        "platform": derivation.platform,
        "policy": derivation.policy,
    }


def _dependency(material: Material) -> dict[str, Any]:
    """A ResourceDescriptor; `uri` is what the thing is known by, `downloadLocation` where it can be had."""
    digest = {"sha256": material.sha256.hex} if material.sha256 else _nar(material.nar_hash)
    found: dict[str, Any] = {"name": material.key}
    if material.kind == "git":
        found["uri"] = f"git+{material.urls[0]}@{material.commit}"
        digest = {"gitCommit": material.commit, **digest}
    elif material.kind == "file":
        found["uri"] = material.urls[0]
    elif material.purl:
        found["uri"] = material.purl
    found["digest"] = digest
    if material.kind == "package":
        found["downloadLocation"] = material.urls[0]
    if len(material.urls) > 1:
        found["annotations"] = {"mirrors": list(material.urls[1:])}
    return found


def _byproduct(product: Product) -> dict[str, Any]:
    return {
        "name": product.key,
        "uri": f"ccstore:realisation/{product.id}",
        "digest": _nar(product.object.nar_hash),
    }
