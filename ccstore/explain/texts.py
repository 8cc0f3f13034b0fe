"""What differs between two texts, in the terms of what they are: config symbols, hunks of a patch, values, lines.

A config holds `CONFIG_X=value` and `# CONFIG_X is not set` (Linux, Documentation/kbuild/kconfig.rst). Of a patch in
the unified format only hunks count: text around them, and the line that a hunk stands at, change nothing that it
does (git-apply(1)).
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Unit = Literal["symbol", "hunk", "value", "line", "text"]
MOST_LINES = 20_000  # of a text that is compared line by line: the time grows faster than they do
_SET = re.compile(r"(CONFIG_\w+)=(.*)")
_UNSET = re.compile(r"#\s*(CONFIG_\w+) is not set\s*")
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@")
UNSET = "n"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in a text: `what` names it, `line` is where it stands in the newer text that has it.

    None for `old` or `new`: it is not there. Unit `text` is a difference that changes nothing.
    """

    unit: Unit
    what: str
    old: str | None
    new: str | None
    line: int | None = None


def differences(name: str, old: str, new: str) -> list[Difference]:
    """What differs in the text called `name`; never empty for two that are not equal."""
    if old == new:
        return []
    if is_config(old) and is_config(new) and (symbols(old) or symbols(new)):
        return _configs(old, new) or [Difference("text", "comments, or the order of lines", None, None)]
    if is_patch(name):
        return _patches(old, new) or [Difference("text", "only what stands around its hunks", None, None)]
    values = _as_values(old), _as_values(new)
    if values[0] is not None and values[1] is not None:
        return _values(values[0], values[1]) or [Difference("text", "its layout", None, None)]
    return list(_lines(old, new))


# --- configs ----------------------------------------------------------------------------------------------------


def is_config(text: str) -> bool:
    """Whether every line is a symbol's, a comment or empty."""
    return all(not line.strip() or line.startswith("#") or _SET.match(line) for line in text.splitlines())


def symbols(text: str) -> dict[str, tuple[str, int]]:
    """Value and line of each symbol that a config sets; of one that it switches off the value is `n`."""
    found: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        given, unset = _SET.fullmatch(line.rstrip()), _UNSET.fullmatch(line)
        if given:
            found[given[1]] = given[2], number
        elif unset:
            found[unset[1]] = UNSET, number
    return found


def _configs(old: str, new: str) -> list[Difference]:
    before, after = symbols(old), symbols(new)
    found = [
        Difference("symbol", name, before[name][0] if name in before else None, value, line)
        for name, (value, line) in after.items()
        if name not in before or before[name][0] != value
    ]
    gone = [
        Difference("symbol", name, value, None, line)
        for name, (value, line) in before.items()
        if name not in after
    ]
    return found + gone


def is_patch(name: str) -> bool:
    return name.endswith((".patch", ".diff"))


# --- patches ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hunk:
    """`number` among those of `file`; `start` is a line of the file, `at` one of the patch; `body` its lines."""

    file: str
    number: int
    start: int
    at: int
    body: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"{self.file}, hunk {self.number}, line {self.start}"

    @property
    def changes(self) -> list[str]:
        """The lines that it takes away and adds, with their sign."""
        return [line for line in self.body if line[:1] in ("+", "-")]


@dataclass(slots=True)
class _Reading:
    file: str = ""
    numbers: Counter[str] = field(default_factory=Counter)


def hunks(patch: str) -> Iterator[Hunk]:
    """The hunks of a patch in the unified format."""
    lines = patch.splitlines()
    reading = _Reading()
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        match = _HUNK.match(line)
        if match and reading.file:
            reading.numbers[reading.file] += 1
            end = _end_of_hunk(lines, number, int(match[2] or 1), int(match[3] or 1))
            count = reading.numbers[reading.file]
            yield Hunk(reading.file, count, int(match[1]), number, tuple(lines[number:end]))
            number = end
        elif line.startswith(("--- ", "+++ ")):
            name = line[4:].split("\t")[0].strip()
            if name != "/dev/null":
                reading.file = name.partition("/")[2] or name


def _end_of_hunk(lines: list[str], at: int, old: int, new: int) -> int:
    while at < len(lines) and (old > 0 or new > 0 or lines[at].startswith("\\")):
        lead = lines[at][:1]
        old -= lead not in ("+", "\\")
        new -= lead not in ("-", "\\")
        at += 1
    return at


def _patches(old: str, new: str) -> list[Difference]:
    before, after = list(hunks(old)), list(hunks(new))
    same = Counter((each.file, each.body) for each in before) & Counter(
        (each.file, each.body) for each in after
    )
    left, right = _without(before, same.copy()), _without(after, same)
    found: list[Difference] = []
    for each in right:
        other = next((one for one in left if one.file == each.file), None)
        if other:
            left.remove(other)
        found.append(_hunk(other, each))
    return found + [_hunk(each, None) for each in left]


def _without(all_hunks: list[Hunk], same: Counter[tuple[str, tuple[str, ...]]]) -> list[Hunk]:
    """Those that the other patch does not have too."""
    rest = []
    for each in all_hunks:
        if same[each.file, each.body]:
            same[each.file, each.body] -= 1
        else:
            rest.append(each)
    return rest


def _hunk(old: Hunk | None, new: Hunk | None) -> Difference:
    """One hunk that came, went or changed, by the first lines of it that say so."""
    here = new or old
    assert here is not None
    before, after = (each.changes if each else [] for each in (old, new))
    removed, added = _first_only(before, after), _first_only(after, before)
    if old and new and removed is None and added is None:
        removed, added = f"line {old.start}", f"line {new.start}, other context"
    return Difference("hunk", here.place, removed, added, here.at)


def _first_only(lines: list[str], others: list[str]) -> str | None:
    """The first of `lines` that `others` have not."""
    rest = Counter(others)
    for line in lines:
        if not rest[line]:
            return line
        rest[line] -= 1
    return None


# --- values and lines -------------------------------------------------------------------------------------------


def _as_values(text: str) -> dict[str, Any] | None:
    """The JSON object that the text is, if it is one."""
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _values(old: Any, new: Any) -> list[Difference]:
    before, after = dict(_flat("", old)), dict(_flat("", new))
    return [
        Difference("value", name, before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every plain value by its place: `services.0.command.2`."""
    if isinstance(value, dict | list) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in pairs:
            yield from _flat(f"{name}.{key}" if name else str(key), each)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _lines(old: str, new: str) -> Iterator[Difference]:
    before, after = old.splitlines(), new.splitlines()
    if max(len(before), len(after)) > MOST_LINES or "\0" in old + new:
        yield Difference("line", "content", f"{len(old)} bytes", f"{len(new)} bytes")
        return
    if before == after:
        yield Difference("line", "the ends of its lines", None, None)
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag != "equal":
            place = f"line {j1 + 1}" if j2 - j1 < 2 else f"lines {j1 + 1} to {j2}"
            yield Difference("line", place, _some(before[i1:i2]), _some(after[j1:j2]), j1 + 1)


def _some(lines: list[str]) -> str | None:
    """The first of some lines that says something."""
    return next((line.strip() for line in lines if line.strip()), "") if lines else None
