"""SANDBOX_POLICY is part of every build's identity; this ties it to the code that makes the sandbox.

A build could notice what `layout` and `enter` do. When they change, this fails: raise SANDBOX_POLICY if an output
could come out otherwise, then write the golden file anew with `python -m pytest tests/executor/test_policy.py
--accept`. Comments, docstrings, annotations, names of files and layout do not count.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

from ccstore.executor import enter, layout
from ccstore.model.derivation import SANDBOX_POLICY

GOLDEN = Path(__file__).parent / "golden" / "sandbox-policy.json"
IGNORED = ("annotation", "returns", "type_comment", "kind", "type_params")


def behaviour(source: str) -> str:
    """A digest of what the code does, the same for every version of Python that can run it."""
    return hashlib.sha256(repr(shape(ast.parse(source))).encode()).hexdigest()


def shape(node: Any) -> Any:
    if isinstance(node, list):
        return [shape(each) for each in node if not is_text(each)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: value for name, value in ast.iter_fields(node) if name not in IGNORED}
    kept = {name: shape(value) for name, value in fields.items() if value is not None and value != []}
    if isinstance(node, ast.Constant):
        kept = {"value": repr(node.value)}
    return (type(node).__name__, sorted(kept.items()))


def is_text(node: Any) -> bool:
    """A docstring, or any other text that stands alone."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def test_what_the_sandbox_does_has_a_number_of_its_own(accept: bool) -> None:
    now = {module.__name__: behaviour(inspect.getsource(module)) for module in (layout, enter)}
    found = {"policy": SANDBOX_POLICY, **now}
    if accept:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(GOLDEN.read_text()), (
        "what the sandbox does has changed: if a build could notice, raise SANDBOX_POLICY in model/derivation.py; "
        "then run this test with --accept"
    )


def test_only_what_is_done_counts() -> None:
    source = '"""Text."""\nLIMIT: int = 3\ndef f(x: int) -> int:\n    """Text."""\n    return x + LIMIT\n'
    same = "# a comment\nLIMIT: str = 3\n\ndef f(x):\n\n    'other text'\n    return (x + LIMIT)  # more\n"
    assert behaviour(source) == behaviour(same)
    for old, new in (
        ("3", "4"),
        ("x + L", "x - L"),
        ("LIMIT: int", "LIMITS: int"),
        ("3", "None"),
        ("3", "0"),
    ):
        assert behaviour(source) != behaviour(source.replace(old, new))
