"""Codes of errors: each has an exit status, whoever raises it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ccstore.errors import EXIT_STATUS
from tests.conftest import REPOSITORY


def raised() -> Iterator[tuple[str, str]]:
    """Every code that the source gives to CcError literally, with the place."""
    for path in (REPOSITORY / "ccstore").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("CcError") and node.args:
                code = node.args[0]
                if isinstance(code, ast.Constant):
                    yield str(code.value), f"{path.name}:{node.lineno}"


def test_every_code_has_an_exit_status() -> None:
    found = dict(raised())
    assert len(found) > 30
    assert {code: place for code, place in found.items() if code not in EXIT_STATUS} == {}


def test_exit_statuses_are_those_of_the_contract() -> None:
    assert set(EXIT_STATUS.values()) == {1, 2, 3, 4, 5, 6, 125, 130}
