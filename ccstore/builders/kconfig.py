"""kernel.config: makes a kernel's .config and holds it to what was asked for (runs inside the sandbox).

Inputs: `tree`, as kconfig_tree.py leaves it; fragments `fragment-<NN>-<name>`, of which a later one wins; `base`, a
whole config, when BASE is `file` (else BASE is a config target of the tree's make). $out becomes one file, the
final .config.

A fragment holds lines `CONFIG_X=value` and `# CONFIG_X is not set`; other lines that begin with `#` are comments.
What a fragment asks for must be in the final .config (a base is a starting point, and may lose symbols): the tree's
own `olddefconfig` decides, and kconfiglib, which reads the same Kconfig files, explains. Both see the same
environment: make is given a copy of the tree's top Kconfig file that also writes it down.

Failures: `recipe-invalid` (no line of a fragment, a symbol asked for twice in one, a BASE that is no config target),
`version-mismatch`, `config-unknown` and `config-dropped`, all of which are in `details`. When make fails, its log
says why and there is no report.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

import kconfiglib as kc

INPUTS = Path("/in")
OUT = Path("/out/out")
OBJECTS = Path("/build/o")
KCONFIG = Path("/build/Kconfig")
MAKE_ENV = Path("/build/make-env")
DEEPEST = 6  # levels of a chain of dependencies that are worth reading
_SET = re.compile(r"CONFIG_(\w+)=(.*)")
_UNSET = re.compile(r"#\s*CONFIG_(\w+) is not set\s*")
_TARGET = re.compile(r"[A-Za-z0-9_.-]*config")
_TRISTATE = {"n": 0, "m": 1, "y": 2}


@dataclass(frozen=True)
class Request:
    """What line `line` of input `source` asks for; an unset symbol has the value n."""

    symbol: str
    value: str
    source: str
    line: int

    @property
    def place(self) -> str:
        return f"{self.source}:{self.line}"

    def __str__(self) -> str:
        off = self.value == "n"
        return f"# CONFIG_{self.symbol} is not set" if off else f"CONFIG_{self.symbol}={self.value}"


@dataclass(frozen=True)
class Problem:
    """A request that the final config does not grant."""

    code: str
    request: Request
    message: str
    chain: tuple[str, ...]
    hint: str


def fail(code: str, message: str, **more: object) -> NoReturn:
    details = more.get("details", [])
    assert isinstance(details, list)
    print("\n".join([message, *details]), file=sys.stderr)
    Path(os.environ["CCSTORE_REPORT"]).write_text(json.dumps({"code": code, "message": message, **more}))
    sys.exit(1)


# --- what is asked for ------------------------------------------------------------------------------------------


def read_config(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number, symbol and value of each line that sets one; ValueError(line number, line) for any other."""
    for number, line in enumerate(text.splitlines(), 1):
        given, unset = _SET.fullmatch(line.rstrip()), _UNSET.fullmatch(line)
        if given and given[2]:
            yield number, given[1], given[2]
        elif unset:
            yield number, unset[1], "n"
        elif line.strip() and not line.startswith("#"):
            raise ValueError(number, line)


def read_fragment(path: Path) -> dict[str, Request]:
    requests: dict[str, Request] = {}
    try:
        for number, symbol, value in read_config(path.read_text(errors="replace")):
            request = Request(symbol, value, path.name, number)
            earlier = requests.setdefault(symbol, request)
            if earlier.value != value:
                _contradiction(earlier, request)
    except ValueError as error:
        number, line = error.args
        fail(
            "recipe-invalid",
            f"{line.strip()!r} is not a line of a config fragment",
            input=path.name,
            line=number,
            hint="write CONFIG_X=y, CONFIG_X=m, CONFIG_X=<value> or '# CONFIG_X is not set'",
        )
    return requests


def _contradiction(earlier: Request, later: Request) -> NoReturn:
    message = f"'{later}' contradicts line {earlier.line} of the same fragment, '{earlier}'"
    hint = "keep one of the two; a later fragment may override an earlier one"
    fail("recipe-invalid", message, input=later.source, line=later.line, hint=hint)


def merge(fragments: Iterable[Path]) -> dict[str, Request]:
    requests: dict[str, Request] = {}
    for path in fragments:
        requests.update(read_fragment(path))
    return requests


# --- making the config ------------------------------------------------------------------------------------------


def make(*words: str) -> str:
    """Runs the tree's make; what it prints goes to the log, except for `-s`, whose output is the result."""
    argv = ["make", "-C", str(INPUTS / "tree"), f"O={OBJECTS}", f"KBUILD_KCONFIG={KCONFIG}", *words]
    quiet = "-s" in words
    env = os.environ | {"MAKEFLAGS": os.environ["CCSTORE_MAKEFLAGS"]}
    # its jobserver is open descriptors
    done = subprocess.run(
        argv, stdout=subprocess.PIPE if quiet else None, text=True, check=False, env=env, close_fds=False
    )
    if done.returncode:
        sys.exit(f"make {' '.join(words)} failed")
    return (done.stdout or "").strip()


def check_version(wanted: str) -> None:
    got = make("-s", "kernelversion")
    if got != wanted:
        fail(
            "version-mismatch",
            f"the recipe says version {wanted}, the source is {got}",
            hint=f"write version: {got!r}, or give the URL and hash of {wanted}",
        )


def make_config(base: str, requests: dict[str, Request]) -> dict[str, str]:
    """The final .config, as values by symbol; it lies in OBJECTS."""
    config = OBJECTS / ".config"
    if base == "file":
        config.write_bytes((INPUTS / "base").read_bytes())
    elif _TARGET.fullmatch(base):
        make(base)
    else:
        fail(
            "recipe-invalid",
            f"{base!r} is not a config target of a kernel",
            hint="tinyconfig or defconfig is",
        )
    # appended, because the last setting of a symbol wins; conf would warn of each one that is replaced
    kept = [line for line in config.read_text().splitlines() if _symbol(line) not in requests]
    config.write_text("\n".join([*kept, *map(str, requests.values()), ""]))
    make("olddefconfig")
    return {symbol: value for _, symbol, value in read_config(config.read_text())}


def _symbol(line: str) -> str:
    match = _SET.fullmatch(line) or _UNSET.fullmatch(line)
    return match[1] if match else ""


# --- what was not granted, and why ------------------------------------------------------------------------------


class Tree(kc.Kconfig):  # type: ignore[misc]  # kconfiglib has no types
    """The tree's Kconfig. kconfiglib knows only the older way to say which symbol switches modules on."""

    def _open(self, filename: str, mode: str) -> Any:
        file = super()._open(filename, mode)
        if mode != "r" or not Path(filename).name.startswith("Kconfig"):
            return file
        with file:
            return StringIO(re.sub(r"(?m)^([ \t]+)modules[ \t]*$", r"\1option modules", file.read()))


def load_tree() -> Tree:
    for item in MAKE_ENV.read_bytes().split(b"\0"):
        name, _, value = item.partition(b"=")
        if name:
            os.environb[name] = value
    os.chdir(OBJECTS)
    tree = Tree("Kconfig", warn=False)
    tree.load_config(str(OBJECTS / ".config"))
    return tree


def problems(tree: Tree, requests: dict[str, Request], final: dict[str, str]) -> Iterator[Problem]:
    for request in sorted(requests.values(), key=lambda each: (each.source, each.line)):
        symbol = tree.syms.get(request.symbol)
        if symbol is None or not symbol.nodes:
            yield _unknown(tree, request)
        elif not _same(symbol, request.value, final.get(request.symbol, "n")) and not _outvoted(
            symbol, requests
        ):
            yield _dropped(symbol, request, final.get(request.symbol, "n"), requests)


def _unknown(tree: Tree, request: Request) -> Problem:
    known = [name for name, symbol in tree.syms.items() if symbol.nodes]
    close = difflib.get_close_matches(request.symbol, known, 3, 0.7)
    names = " or ".join(f"CONFIG_{name}" for name in close)
    return Problem(
        "config-unknown",
        request,
        f"this kernel has no symbol CONFIG_{request.symbol}",
        (f"close to it is {names}",) if close else (),
        f"did you mean {names}?" if close else "take the line out, or look in the kernel's Kconfig files",
    )


def _same(symbol: Any, wanted: str, got: str) -> bool:
    if symbol.orig_type == kc.HEX and got != "n":
        try:
            return int(wanted, 16) == int(got, 16)
        except ValueError:
            return False
    return wanted == got


def _outvoted(symbol: Any, requests: dict[str, Request]) -> bool:
    """Whether a later fragment asks for another member of the same choice, which is to override this one."""
    winner = symbol.choice.selection if symbol.choice else None
    later = requests.get(winner.name) if winner else None
    return later is not None and later.value == "y" and later.source > requests[symbol.name].source


def _dropped(symbol: Any, request: Request, got: str, requests: dict[str, Request]) -> Problem:
    shown = "is not set" if got == "n" else f"is {got}"
    message = f"'{request}' was asked for, and CONFIG_{symbol.name} {shown}"
    hint = "ask for what it needs in a fragment, or take the line out"
    return Problem(
        "config-dropped", request, message, tuple(Why(symbol, request.value, requests).lines), hint
    )


class Why:
    """Collects in `lines` why `symbol` has not the value that was asked for; deeper causes are indented."""

    def __init__(self, symbol: Any, wanted: str, requests: dict[str, Request]) -> None:
        self.lines: list[str] = []
        self._requests = requests
        self._seen = {symbol.name}
        kind = kc.TYPE_TO_STR[symbol.orig_type]
        if symbol.orig_type not in (kc.BOOL, kc.TRISTATE):
            self._value(symbol, wanted, kind)
        elif wanted not in _TRISTATE or (wanted == "m" and symbol.orig_type == kc.BOOL):
            self._say(0, f"CONFIG_{symbol.name} is a {kind} and cannot be {wanted}")
        elif _TRISTATE[wanted] < symbol.tri_value:
            self._too_high(symbol, _TRISTATE[wanted])
        else:
            self._too_low(symbol, _TRISTATE[wanted], 0)

    def _say(self, depth: int, line: str) -> None:
        self.lines.append("  " * depth + line)

    def _value(self, symbol: Any, wanted: str, kind: str) -> None:
        limits = [each for each in symbol.ranges if kc.expr_value(each[2])]
        if symbol.visibility == 0:
            self._invisible(symbol, 1, 0)
        elif limits:
            low, high = limits[0][0].str_value, limits[0][1].str_value
            self._say(0, f"CONFIG_{symbol.name} must lie between {low} and {high}")
        else:
            example = {kc.STRING: '"text"', kc.HEX: "0x10"}.get(symbol.orig_type, "10")
            self._say(0, f"CONFIG_{symbol.name} is a {kind}, for example {example}; {wanted} is none")

    def _too_high(self, symbol: Any, most: int) -> None:
        if self._selected(symbol, most + 1, 0):
            return
        if symbol.choice and symbol.choice.selection is symbol:
            self._say(0, f"CONFIG_{symbol.name} is what is left of the choice {_prompt(symbol.choice)}")
        elif most:
            self._say(0, "CONFIG_MODULES is n: what is not off is built in")
        else:
            self._say(0, f"no prompt of CONFIG_{symbol.name} is visible: its default decides")
            self._invisible(symbol, 1, 1)

    def _selected(self, symbol: Any, least: int, depth: int) -> bool:
        selectors = list(_selectors(symbol.rev_dep, least))
        for each in selectors:
            self._say(depth, f"CONFIG_{symbol.name} is selected by CONFIG_{each.name}{self._state(each)}")
        return bool(selectors)

    def _too_low(self, symbol: Any, need: int, depth: int) -> None:
        """Why `symbol` is below `need` (1 for m, 2 for y)."""
        winner = symbol.choice.selection if symbol.choice else None
        if symbol.visibility < need:
            self._invisible(symbol, need, depth)
        elif winner is not None and winner is not symbol:
            self._say(
                depth, f"of {_prompt(symbol.choice)}, CONFIG_{winner.name} was taken{self._state(winner)}"
            )
        elif depth:
            self._say(depth, f"CONFIG_{symbol.name} can be switched on: add CONFIG_{symbol.name}=y")

    def _invisible(self, symbol: Any, need: int, depth: int) -> None:
        prompts = [node.prompt[1] for node in symbol.nodes if node.prompt]
        if not prompts:
            names = sorted({each.name for each in _selectors(symbol.rev_dep, 0)})
            shown = ", ".join(names[:5]) + (f" or {len(names) - 5} others" if len(names) > 5 else "")
            by = f"by selecting it: {shown}" if names else "by its own default"
            self._say(depth, f"CONFIG_{symbol.name} has no prompt; it is switched on only {by}")
            prompts = [symbol.direct_dep]
            need = 1
        for condition in prompts:
            self._unmet(condition, need, depth)

    def _unmet(self, expr: Any, need: int, depth: int) -> None:
        if kc.expr_value(expr) >= need or depth > DEEPEST:
            return
        operator = expr[0] if isinstance(expr, tuple) else None
        if operator is None:
            self._unmet_symbol(expr, need, depth)
        elif operator == kc.AND:
            for term in expr[1:]:
                self._unmet(term, need, depth)
        elif operator == kc.OR:
            self._say(depth, f"needs one of: {kc.expr_str(expr)}")
            for term in kc.split_expr(expr, kc.OR):
                self._unmet(term, need, depth + 1)
        elif operator == kc.NOT and isinstance(expr[1], kc.Symbol):
            self._say(depth, f"needs CONFIG_{expr[1].name} off{self._state(expr[1])}")
            self._selected(expr[1], 1, depth + 1)
        else:
            self._say(depth, f"needs {kc.expr_str(expr)}")

    def _unmet_symbol(self, item: Any, need: int, depth: int) -> None:
        if isinstance(item, kc.Choice):
            self._say(depth, f"needs the choice {_prompt(item)}")
        elif item.is_constant:
            self._say(depth, "needs what a check of the compiler or of other tools denies")
        elif not item.nodes:
            self._say(depth, f"needs CONFIG_{item.name}, which this kernel does not have")
        elif item.name not in self._seen:
            self._seen.add(item.name)
            value = "=y" if item.tri_value else ""
            self._say(depth, f"needs CONFIG_{item.name}{value}{self._state(item)}")
            self._too_low(item, need, depth + 1)

    def _state(self, symbol: Any) -> str:
        asked = self._requests.get(symbol.name)
        return f", which is {symbol.str_value}" + (f" ({asked.place} asks for '{asked}')" if asked else "")


def _selectors(expr: Any, least: int) -> Iterator[Any]:
    """The symbols that select with at least the value `least`; a term is `symbol && conditions`."""
    for term in kc.split_expr(expr, kc.OR):
        first = kc.split_expr(term, kc.AND)[0]
        if isinstance(first, kc.Symbol) and not first.is_constant and kc.expr_value(term) >= least:
            yield first


def _prompt(choice: Any) -> str:
    return "'" + next((node.prompt[0] for node in choice.nodes if node.prompt), "an unnamed choice") + "'"


def report(found: list[Problem]) -> NoReturn:
    first = found[0]
    details: list[str] = []
    for problem in found:
        details.append(f"{problem.request.place}: {problem.message}")
        details.extend(f"    {line}" for line in problem.chain)
    because = f": {first.chain[0]}" if first.chain else ""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    where = {"input": first.request.source, "line": first.request.line}
    fail(first.code, first.message + because + more, hint=first.hint, details=details, **where)


def main() -> None:
    requests = merge(sorted(INPUTS.glob("fragment-*")))
    OBJECTS.mkdir()
    top = (INPUTS / "tree/Kconfig").read_text()
    KCONFIG.write_text(f"{top}\nccstore-env := $(shell,env -0 >{MAKE_ENV})\n")
    check_version(os.environ["VERSION"])
    final = make_config(os.environ["BASE"], requests)
    found = list(problems(load_tree(), requests, final)) if requests else []
    if found:
        report(found)
    OUT.write_bytes((OBJECTS / ".config").read_bytes())


if __name__ == "__main__":
    main()
