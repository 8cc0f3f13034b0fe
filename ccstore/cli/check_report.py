"""The result of a check: for people, as JSON, and as JUnit's XML."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as Xml

import click

from ccstore.build.check import Compared, Round, StepCheck
from ccstore.build.vary import Variation
from ccstore.build.workspace import Workspace
from ccstore.cli.context import duration
from ccstore.cli.terminal import shown
from ccstore.compare.findings import Difference, Finding
from ccstore.errors import CcError
from ccstore.model.storepath import StorePath

MOST_SHOWN = 20  # differing files that the text names; JSON has them all
UNEXPLAINED = "no known cause"
WORDS = {
    "content": "differs",
    "kind": "is of another kind",
    "mode": "has another mode",
    "link": "leads elsewhere",
    "missing": "is not there any more",
    "added": "is new",
    "renamed": "has another name",
}


def name_of(step: str, output: str) -> str:
    return step if output == "out" else f"{step}^{output}"


def different(check: StepCheck) -> list[str]:
    """The outputs that differed in any round."""
    return [
        name_of(check.step, output)
        for output in check.outputs
        if not all(each.outputs[output].same for each in check.rounds)
    ]


def print_all(work: Workspace, found: list[StepCheck]) -> None:
    """One line for each output, and the differences, on stdout; what was varied on stderr."""
    for check in found:
        for output, realisation in check.outputs.items():
            times = work.store.checks.reproduced(realisation)
            same = sum(each.outputs[output].same for each in check.rounds)
            word = "reproduced" if same == len(check.rounds) else "differs"
            rounds = f"{same} of {len(check.rounds)}"
            digest = realisation.object.nar_hash.sri
            click.echo(f"{word:<10}  {name_of(check.step, output)}  {rounds} now, {times} in all  {digest}")
    for check in found:
        for each in check.rounds:
            for output, compared in each.outputs.items():
                if not compared.same:
                    click.echo(
                        "\n".join(_report(check, each, output, compared)),
                    )
            click.echo("\n".join(_varied(check, each)), err=True)


def _report(check: StepCheck, here: Round, output: str, compared: Compared) -> Iterator[str]:
    first = check.outputs[output].object
    name = name_of(check.step, output)
    yield f"\n{name}, round {here.number}: not the same"
    yield f"  first   {first.nar_hash.sri}  {first.path.base}"
    yield f"  second  {compared.nar_hash.sri}  {StorePath.of_content(first.path.name, compared.nar_hash).base}"
    for difference in compared.differences[:MOST_SHOWN]:
        yield from _shown(difference)
    if len(compared.differences) > MOST_SHOWN:
        yield f"\n  and {len(compared.differences) - MOST_SHOWN} more files (--json lists them all)"


def _shown(difference: Difference) -> Iterator[str]:
    path = shown(difference.path) or "(the file itself)"
    yield f"\n  {path} {WORDS[difference.what]}{_size(difference)}"
    for finding in difference.findings:
        if finding.where:
            yield f"    {shown(', '.join(finding.where))}"
        yield f"      - {shown(finding.first)}"
        yield f"      + {shown(finding.second)}"
        if difference.what in ("content", "renamed"):
            yield f"      cause: {', '.join(finding.causes) or UNEXPLAINED}"
    if difference.more:
        yield "    and more"


def _size(difference: Difference) -> str:
    if difference.changed is not None:
        return f": {difference.changed} of {difference.first_size} bytes"
    if difference.what == "content":
        return f": {difference.first_size} bytes, {difference.second_size} bytes"
    return ""


def _varied(check: StepCheck, here: Round) -> Iterator[str]:
    """What was otherwise, and what was not and why: a check that could not fail is seen."""
    yield f"{check.step}, round {here.number}, {duration(here.seconds)}. Varied:"
    for each in here.variations:
        if each.varied:
            yield f"  {each.label}: {shown(each.first)} → {shown(each.second)}"
    reasons: dict[str, list[str]] = {}
    for each in here.variations:
        if not each.varied:
            reasons.setdefault(each.why, []).append(each.label)
    if reasons:
        yield "Not varied:"
    for why, labels in reasons.items():
        yield f"  {', '.join(labels)}: {shown(why)}"


def as_value(work: Workspace, found: list[StepCheck]) -> list[dict[str, object]]:
    """As JSON: an object for each output."""
    return [
        {
            "target": name_of(check.step, output),
            "derivation": check.derivation,
            "output": output,
            "path": str(work.store.objects.path(realisation.object.path)),
            "narHash": realisation.object.nar_hash.sri,
            "same": all(each.outputs[output].same for each in check.rounds),
            "reproduced": work.store.checks.reproduced(realisation),
            "differed": work.store.checks.differed(realisation),
            "rounds": [_round_value(each, output) for each in check.rounds],
        }
        for check in found
        for output, realisation in check.outputs.items()
    ]


def _round_value(here: Round, output: str) -> dict[str, object]:
    compared = here.outputs[output]
    return {
        "round": here.number,
        "seconds": round(here.seconds, 3),
        "narHash": compared.nar_hash.sri,
        "same": compared.same,
        "varied": [_variation_value(each) for each in here.variations if each.varied],
        "notVaried": [{"name": each.name, "why": each.why} for each in here.variations if not each.varied],
        "differences": [_difference_value(each) for each in compared.differences],
    }


def _variation_value(variation: Variation) -> dict[str, str]:
    return {"name": variation.name, "first": variation.first, "second": variation.second}


def _difference_value(difference: Difference) -> dict[str, object]:
    return {
        "path": difference.path,
        "what": difference.what,
        "firstSize": difference.first_size,
        "secondSize": difference.second_size,
        "changedBytes": difference.changed,
        "findings": [_finding_value(each) for each in difference.findings],
        "more": difference.more,
    }


def _finding_value(finding: Finding) -> dict[str, object]:
    return {
        "where": list(finding.where),
        "first": finding.first,
        "second": finding.second,
        "causes": list(finding.causes),
    }


def write_junit(file: Path, found: list[StepCheck]) -> None:
    """A suite for each step, a case for each output of each round. Raises `usage` if it cannot be written."""
    suites = Xml.Element("testsuites", name="ccstore check")
    for check in found:
        cases = [(each, output) for each in check.rounds for output in check.outputs]
        failures = sum(not each.outputs[output].same for each, output in cases)
        seconds = sum(each.seconds for each in check.rounds)
        suite = Xml.SubElement(
            suites,
            "testsuite",
            name=check.step,
            tests=str(len(cases)),
            failures=str(failures),
            errors="0",
            skipped="0",
            time=f"{seconds:.3f}",
        )
        for each, output in cases:
            _add_case(suite, check, each, output)
    tree = Xml.ElementTree(suites)
    Xml.indent(tree)
    try:
        tree.write(file, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        message = f"the report cannot be written: {error.strerror}"
        raise CcError("usage", message, where=str(file), hint="name a file that can be written") from error


def _add_case(suite: Xml.Element, check: StepCheck, here: Round, output: str) -> None:
    compared = here.outputs[output]
    name = f"{name_of(check.step, output)} is the same in round {here.number}"
    seconds = here.seconds / len(check.outputs)
    attributes = {"classname": f"ccstore.check.{check.step}", "name": name, "time": f"{seconds:.3f}"}
    case = Xml.SubElement(suite, "testcase", attributes)
    if not compared.same:
        first = check.outputs[output].object.nar_hash.sri
        message = f"{first} at first, {compared.nar_hash.sri} when built again"
        failure = Xml.SubElement(case, "failure", message=message, type="not-reproducible")
        failure.text = "\n".join(_report(check, here, output, compared))
    said = Xml.SubElement(case, "system-out")
    said.text = "\n".join(_varied(check, here))
