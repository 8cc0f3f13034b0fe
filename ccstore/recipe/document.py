"""YAML texts that remember where everything stands.

The text is read as a stream of YAML events, from which plain values (dict, list, str) are built without
recursion. Every scalar stays the text that was written: what `6.10` or `no` means is decided by the field that
takes it, not by YAML's guesses. Anchors, aliases, tags, merge keys, duplicate keys, keys without a value and
more than one document are refused, so a text can neither grow while it is read nor make objects.

Source: YAML 1.1, as PyYAML (libyaml where it was built with it) parses it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml
from yaml.reader import Reader

from ccstore.errors import CcError

Loc = tuple[str | int, ...]

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_DEPTH = 20
NULLS = ("", "~", "null", "Null", "NULL")


class Mark(NamedTuple):
    """A place in a text: line and column count from 0, `width` in characters."""

    line: int
    column: int
    width: int = 1


@dataclass(frozen=True, slots=True)
class Codes:
    """The error codes for a kind of file: what is not YAML, and what says the wrong thing."""

    syntax: str
    invalid: str


RECIPE = Codes("recipe-syntax", "recipe-invalid")
CONFIG = Codes("config-invalid", "config-invalid")
LOCK = Codes("lock-invalid", "lock-invalid")


@dataclass(slots=True)
class Document:
    """A parsed text: `data`, and the mark of every value and key by its location in the data; `texts` are leaves.

    `name` is what messages call the file. An empty text has the data `{}`.
    """

    name: str
    lines: list[str]
    codes: Codes
    data: Any = None
    values: dict[Loc, Mark] = field(default_factory=dict)
    keys: dict[Loc, Mark] = field(default_factory=dict)
    texts: set[Loc] = field(default_factory=set)

    def mark(self, loc: Loc, *, key: bool = False) -> Mark:
        """Where `loc` stands: the value, or its key; the nearest enclosing place if it is not in the text."""
        for length in range(len(loc), 0, -1):
            prefix = loc[:length]
            on_key = key or (length < len(loc) and prefix not in self.texts)
            found = self.keys.get(prefix) if on_key else None
            found = found or self.values.get(prefix)
            if found:
                return found
        return self.keys.get(("kind",)) or Mark(0, 0)

    def where(self, loc: Loc = (), *, key: bool = False) -> str:
        """`recipes/kernel.yml:12:5`"""
        return self.place(self.mark(loc, key=key))

    def place(self, mark: Mark) -> str:
        return f"{self.name}:{mark.line + 1}:{mark.column + 1}"

    def excerpt(self, mark: Mark) -> tuple[str, ...]:
        """The source line and a caret under the place."""
        if mark.line >= len(self.lines):
            return ()
        line = self.lines[mark.line]
        start = max(0, mark.column - 60)
        shown = line[start : start + 100].rstrip()
        number = f"{mark.line + 1:5} | "
        indent = "".join(char if char == "\t" else " " for char in shown[: mark.column - start])
        width = max(1, min(mark.width, len(shown) - mark.column + start))
        return (number + shown, " " * (len(number) - 2) + "| " + indent + "^" * width)

    def error(
        self,
        message: str,
        loc: Loc = (),
        *,
        key: bool = False,
        code: str | None = None,
        hint: str | None = None,
        details: tuple[str, ...] = (),
    ) -> CcError:
        """An error at `loc`, with the source line and a caret first among its details."""
        return self.error_at(
            self.mark(loc, key=key), message, code or self.codes.invalid, hint=hint, details=details
        )

    def error_at(
        self, mark: Mark, message: str, code: str, *, hint: str | None = None, details: tuple[str, ...] = ()
    ) -> CcError:
        return CcError(
            code, message, where=self.place(mark), hint=hint, details=(*self.excerpt(mark), *details)
        )


def read(path: Path, name: str, codes: Codes, max_bytes: int = 256 * 1024) -> Document:
    """Reads and parses a file; `name` is what messages call it.

    Raises `file-missing` when it is not there or cannot be read, `codes` for anything that is wrong in it.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise CcError(
                codes.syntax,
                "this is not a regular file",
                where=name,
                hint="rename it or take it away: what has this name is read as YAML",
            )
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise CcError(
            "file-missing",
            f"{name} cannot be read: {error.strerror or error}",
            where=name,
            hint="see to it that the file is there and that you may read it",
        ) from error
    if len(content) > max_bytes:
        raise CcError(
            codes.syntax,
            f"the file is larger than {max_bytes} bytes",
            where=name,
            hint="move data to files of its own; a recipe can name them",
        )
    return parse(_decode(content, name, codes), name, codes)


def _decode(content: bytes, name: str, codes: Codes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", errors="replace")
        column = len(before) - before.rfind("\n")
        raise CcError(
            codes.syntax,
            f"byte 0x{content[error.start]:02x} is not UTF-8",
            where=f"{name}:{before.count(chr(10)) + 1}:{column}",
            hint="save the file as UTF-8",
        ) from error


def parse(text: str, name: str, codes: Codes = RECIPE) -> Document:
    """Parses YAML; raises `codes.syntax` or `codes.invalid` with the place, whatever the text is."""
    document = Document(name, text.splitlines(), codes)
    bad = Reader.NON_PRINTABLE.search(text)
    if bad:
        before = text[: bad.start()].splitlines(keepends=True) or [""]
        if before[-1].endswith(("\n", "\r")):
            before.append("")
        mark = Mark(len(before) - 1, len(before[-1]))
        raise document.error_at(mark, f"the character {bad.group()!r} is not allowed in YAML", codes.syntax)
    builder = _Builder(document)
    try:
        for event in _events(text):
            builder.feed(event)
    except yaml.YAMLError as error:
        raise _syntax_error(document, error, builder.still_open) from error
    except (ValueError, OverflowError) as error:  # PyYAML's own scanner on odd escapes and version numbers
        raise document.error_at(builder.last, f"this is not YAML: {error}", codes.syntax) from error
    document.data = {} if builder.root is None else builder.root
    return document


def _events(text: str) -> Iterator[Any]:
    yield from yaml.parse(text, Loader=LOADER)


def _syntax_error(document: Document, error: yaml.YAMLError, still_open: Mark) -> CcError:
    """`still_open` is the innermost list or mapping that had not ended: where to look if the text just stops."""
    marks = (getattr(error, name, None) for name in ("problem_mark", "context_mark"))
    inside = [Mark(mark.line, mark.column) for mark in marks if mark and mark.line < len(document.lines)]
    place = inside[0] if inside else still_open
    problem = getattr(error, "problem", None) or str(error)
    context = getattr(error, "context", None)
    line = document.lines[place.line] if place.line < len(document.lines) else ""
    if "\t" in line[: max(place.column + 1, len(line) - len(line.lstrip()))]:
        place = Mark(place.line, line.index("\t"))
        message, hint = "a tab stands where YAML wants spaces", "indent with spaces"
    else:
        message = f"this is not YAML: {problem}" + (f" ({context})" if context else "")
        hint = "text with ': ', ' #' or a leading special character needs quotes"
    return document.error_at(place, message, document.codes.syntax, hint=hint)


@dataclass(slots=True)
class _Frame:
    """A mapping or list that is still open; `key` is the mapping's key that waits for its value."""

    value: dict[str, Any] | list[Any]
    loc: Loc
    key: str | None = None

    def next_loc(self) -> Loc:
        last = self.key if isinstance(self.value, dict) else len(self.value)
        return (*self.loc, last if last is not None else "")


class _Builder:
    """Makes values from events; refuses what recipes have no use for."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.root: Any = None
        self.last = Mark(0, 0)
        self._stack: list[_Frame] = []
        self._documents = 0

    @property
    def still_open(self) -> Mark:
        loc = self._stack[-1].loc if self._stack else ()
        return self.document.values.get(loc, Mark(0, 0))

    def feed(self, event: Any) -> None:
        self.last = _mark_of(event)
        if isinstance(event, yaml.NodeEvent):
            self._node(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._stack.pop()
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._refuse("a second document begins here", "one file holds one document")

    def _node(self, event: Any) -> None:
        if event.anchor is not None:  # an alias has one too
            self._refuse("anchors and aliases are not allowed here", "write the value out")
        if event.tag is not None:
            self._refuse(f"the tag {event.tag!r} is not allowed here", "write the plain value")
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        else:
            self._open({} if isinstance(event, yaml.MappingStartEvent) else [])

    def _refuse(self, message: str, hint: str) -> NoReturn:
        raise self.document.error_at(self.last, message, self.document.codes.syntax, hint=hint)

    def _open(self, value: dict[str, Any] | list[Any]) -> None:
        if self._awaits_key():
            self._refuse("a key has to be a plain word", "a list or mapping cannot be a key")
        if len(self._stack) >= MAX_DEPTH:
            self._refuse(f"this is nested more than {MAX_DEPTH} levels deep", "no recipe needs that")
        loc = self._put(value)
        self._stack.append(_Frame(value, loc))

    def _awaits_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None

    def _scalar(self, event: Any) -> None:
        text = event.value
        if "\0" in text or not _encodable(text):
            self._refuse("the text holds a NUL or half a surrogate pair", "leave it out")
        if self._awaits_key():
            self._key(text, plain=event.style is None or event.style == "")
        elif event.implicit[0] and text in NULLS:
            self._null(event.value)
        else:
            self.document.texts.add(self._put(text))

    def _null(self, text: str) -> None:
        if not self._stack:
            return  # an empty document
        loc = self._stack[-1].next_loc()
        name = ".".join(str(part) for part in loc)
        hint = (
            f"quote it if the text {text!r} is meant"
            if text
            else 'give it a value ("" for none), or leave the key out'
        )
        mark = self.document.keys.get(loc, self.last)
        raise self.document.error_at(mark, f"{name!r} has no value", self.document.codes.invalid, hint=hint)

    def _key(self, text: str, *, plain: bool) -> None:
        frame = self._stack[-1]
        loc = (*frame.loc, text)
        if plain and text in ("<<", ""):
            self._refuse("merge keys and empty keys are not allowed here", "write the key out")
        if loc in self.document.keys:
            first = self.document.keys[loc].line + 1
            self._refuse(f"the key {text!r} is given twice, first in line {first}", "keep one of the two")
        self.document.keys[loc] = self.last
        frame.key = text

    def _put(self, value: Any) -> Loc:
        """Adds a value to what is open; its location."""
        if not self._stack:
            self.root = value
            return ()
        frame = self._stack[-1]
        loc = frame.next_loc()
        self.document.values[loc] = self.last
        if isinstance(frame.value, list):
            frame.value.append(value)
        else:
            frame.value[str(frame.key)] = value
            frame.key = None
        return loc


def _mark_of(event: Any) -> Mark:
    start, end = event.start_mark, event.end_mark
    width = end.column - start.column if end.line == start.line else 1
    return Mark(start.line, start.column, max(1, width))


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
