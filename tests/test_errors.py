"""Errors: each code has an exit status, whoever raises it, and each error says what to do next."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ccstore.errors import EXIT_STATUS
from tests.conftest import REPOSITORY

# whoever interrupts a command knows what to do next
NO_HINT = {"interrupted"}
ANOTHER = None  # as ** is named: an error of another process, with the hint that it had


def constructed() -> Iterator[tuple[str, ast.Call]]:
    """Every CcError that the source makes, with the place."""
    for path in (REPOSITORY / "ccstore").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "CcError":
                yield f"{path.relative_to(REPOSITORY)}:{node.lineno}", node


def code_of(call: ast.Call) -> str | None:
    """What it gives as the code, if literally."""
    code = call.args[0] if call.args else None
    return str(code.value) if isinstance(code, ast.Constant) else None


def test_every_code_has_an_exit_status() -> None:
    found = {code: place for place, call in constructed() if (code := code_of(call))}
    assert len(found) > 30
    assert {code: place for code, place in found.items() if code not in EXIT_STATUS} == {}


def test_every_error_says_what_to_do_next() -> None:
    silent = [
        place
        for place, call in constructed()
        if code_of(call) not in NO_HINT and not {"hint", ANOTHER} & {each.arg for each in call.keywords}
    ]
    assert silent == []


def test_exit_statuses_are_those_of_the_contract() -> None:
    assert set(EXIT_STATUS.values()) == {1, 2, 3, 4, 5, 6, 125, 130}
