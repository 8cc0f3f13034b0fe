"""From what pydantic found wrong to one error that shows every place, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from ccstore.errors import CcError
from ccstore.recipe.document import Document, Loc, Mark
from ccstore.recipe.values import Base, Model, kind_of

M = TypeVar("M", bound=BaseModel)

_EXPECTED = {
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
}


def validate(document: Document, model: type[M], base: Base) -> M:
    """The document's data as `model`; raises `document.codes.invalid` that lists everything that is wrong."""
    try:
        return model.model_validate(document.data, context=base)
    except ValidationError as error:
        raise _error(document, model, error) from error


def _error(document: Document, model: type[BaseModel], error: ValidationError) -> CcError:
    problems = [_Problem(document, model, each) for each in error.errors(include_url=False)]
    return collected(document, [(each.mark, each.message, each.hint) for each in problems])


def collected(document: Document, problems: Iterable[tuple[Mark, str, str | None]]) -> CcError:
    """One error for all problems: the first in the text speaks, the others follow in the details."""
    ordered = sorted(problems, key=lambda each: (each[0].line, each[0].column))
    mark, message, hint = ordered[0]
    details: list[str] = []
    for other, text, advice in ordered[1:]:
        details += [f"{document.place(other)}: {text}" + (f" ({advice})" if advice else "")]
        details += document.excerpt(other)
    return document.error_at(mark, message, document.codes.invalid, hint=hint, details=tuple(details))


class _Problem:
    """One complaint of pydantic in our words."""

    def __init__(self, document: Document, model: type[BaseModel], found: Any) -> None:
        loc: Loc = found["loc"]
        whole = found["type"] == "value_error" and isinstance(found["input"], dict)
        on_key = whole or loc[-1:] == ("[key]",) or found["type"] in ("extra_forbidden", "missing")
        self._loc: Loc = loc[:-1] if loc[-1:] == ("[key]",) else loc
        self._model = model
        self._found = found
        place = self._loc[:-1] if found["type"] == "missing" else self._loc
        self.mark = document.mark(place, key=on_key)
        self.hint: str | None = None
        self.message = self._explain()

    def _explain(self) -> str:
        name = ".".join(str(part) for part in self._loc) or "this file"
        kind, value, context = self._found["type"], self._found["input"], self._found.get("ctx", {})
        if kind == "missing":
            return f"{name!r} is missing"
        if kind == "extra_forbidden":
            known = _keys(_model_at(self._model, self._loc[:-1]))
            self.hint = suggestion(str(self._loc[-1]), known, "the keys here are")
            return f"there is no key {name!r}"
        if kind == "literal_error":
            self.hint = suggestion(str(value), _words(context["expected"]), "one of these is right:")
            return f"{name} should be {context['expected']}, not {kind_of(value)}"
        if kind in _EXPECTED:
            return f"{name} should be {_EXPECTED[kind]}, not {kind_of(value)}"
        if kind == "value_error":
            text = str(context["error"])
            return f"{name} {text}" if text.startswith("should be") else text
        return f"{name}: {self._found['msg']}, not {kind_of(value)}"


def suggestion(word: str, known: Iterable[str], otherwise: str) -> str:
    """A hint: the nearest of `known`, or all of them after the words `otherwise`."""
    names = list(known)
    close = difflib.get_close_matches(word, names, 3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"{otherwise} {', '.join(names)}" if names else "there is none"


def _words(expected: str) -> list[str]:
    return [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]


def _keys(model: type[BaseModel] | None) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _model_at(model: type[BaseModel] | None, loc: Loc) -> type[BaseModel] | None:
    """The model that reads the mapping at `loc`, as far as the types say."""
    for part in loc:
        fields = {field.alias or name: field for name, field in model.model_fields.items()} if model else {}
        if isinstance(part, str) and part in fields:
            model = _inner_model(fields[part].annotation)
    return model


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    found = (_inner_model(each) for each in get_args(annotation))
    return next((each for each in found if each), None)
