"""What the published tools of the formats say of our documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def check_statement(value: dict[str, Any]) -> None:
    """With in-toto's own package: no field that the specifications do not have, none missing."""
    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    parsed = json_format.Parse(json.dumps(value), statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    assert value["predicateType"] == "https://slsa.dev/provenance/v1"
    predicate = json_format.Parse(json.dumps(value["predicate"]), provenance_pb2.Provenance())
    assert predicate.build_definition.build_type
    assert predicate.run_details.builder.id


def check_sbom(file: Path) -> None:
    """With SPDX's own package."""
    from spdx_tools.spdx.parser.parse_anything import parse_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    found = validate_full_spdx_document(parse_file(str(file)))
    assert [each.validation_message for each in found] == []


def related(sbom: dict[str, Any], relation: str) -> set[tuple[str, str]]:
    """The names of what is related so: (one, other)."""
    names = {each["SPDXID"]: each["name"] for each in sbom["packages"]}
    names |= {each["SPDXID"]: each["fileName"] for each in sbom["files"]}
    return {
        (names.get(each["spdxElementId"], "document"), names[each["relatedSpdxElement"]])
        for each in sbom["relationships"]
        if each["relationshipType"] == relation
    }
