"""The entry point: the answer of the evaluation cache where that is enough, else the whole command line."""

from __future__ import annotations

import gc
import os
import sys

OBJECTS = 50_000  # made since garbage was last looked for


def main() -> None:
    """Runs the command in `sys.argv` and exits with its status."""
    gc.set_threshold(OBJECTS)  # Python's own, 700, takes a tenth of the time that loading modules takes
    try:
        answer = _cached_answer(sys.argv[1:])
        if answer is None:
            from ccstore.cli.app import run

            status = run(sys.argv[1:])
            if sys.argv[1:2] != ["run"]:
                sys.exit(status)
        else:
            status = 0
            sys.stdout.buffer.write(os.fsencode(answer))
        sys.stdout.flush()
        sys.stderr.flush()
    except KeyboardInterrupt:
        os._exit(130)
    except BrokenPipeError:
        os._exit(141)  # as a shell reports a writer whose reader went away
    except OSError as error:
        from ccstore.cli.app import unexpected

        os._exit(unexpected(error, debug=False))
    os._exit(status)  # nothing is open, and tearing the interpreter down takes some milliseconds


def _cached_answer(argv: list[str]) -> str | None:
    """What `realize`, `path` and `plan` print when nothing changed; None for every other command line."""
    if argv[:1] not in (["realize"], ["path"], ["plan"]):
        return None
    targets, option = _without_store(argv[1:])
    if not targets or option == "" or (argv[0] == "path" and len(targets) > 1):
        return None
    if any(target.startswith("-") or "/" in target for target in targets):
        return None
    from ccstore.build import evaluation, locate
    from ccstore.errors import CcError

    try:
        project = locate.find_project(".")
    except CcError:  # the whole command line explains it
        return None
    if project is None:
        return None
    store = locate.find_store(project, option, os.environ)
    steps: dict[str, str] = {}  # a plan has one line for each
    lines: list[str] = []
    for target in targets:
        known = evaluation.known(store, project, target)
        if known is None:
            return None
        lines.append(f"{store}/objects/{known.base}\n")
        steps.setdefault(known.step, present(known.step, lines[-1]))
    return "".join(steps.values() if argv[0] == "plan" else lines)


def _without_store(words: list[str]) -> tuple[list[str], str | None]:
    """`words` without `--store DIR`, and DIR."""
    for index, word in enumerate(words):
        if word == "--store":
            return words[:index] + words[index + 2 :], "".join(words[index + 1 : index + 2])
        if word.startswith("--store="):
            return words[:index] + words[index + 1 :], word.removeprefix("--store=")
    return words, None


def present(step: str, place: str) -> str:
    """What `plan` says of a target that is there."""
    return f"present  {step}  {place}"
