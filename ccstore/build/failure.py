"""From a build that failed to the one error a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ccstore.build.buildlog import BuildLog
from ccstore.errors import EXIT_STATUS, CcError
from ccstore.model.graph import Build
from ccstore.ports import BuildResult

_MOST_DETAILS = 1000  # lines of a report; a reject is longer than a screen, but not than this
AGAIN = "again.sh"  # in the folder of a failed build that was kept


def build_error(step: Build, result: BuildResult, log: BuildLog, kept: Path | None) -> CcError:
    """The error for a result that is not `built`; `kept` is where a failed build's folder was kept."""
    if result.outcome == "cancelled":
        return CcError("interrupted", f"{step.name} was interrupted", hint="run the same command to go on")
    if result.outcome == "timeout":
        return CcError(
            "build-timeout",
            f"{step.name} was ended after its time-out of {step.timeout:g} s",
            where=step.where or None,
            hint=f"raise `timeout` in the recipe, or see `ccstore log {step.name}` for where it hangs",
            details=tuple(log.tail),
        )
    if log.disk_full:
        return CcError(
            "disk-full",
            f"{step.name} filled the disk",
            hint="free space (`ccstore gc` removes what no root needs), or use another --store",
            details=tuple(log.tail)[-3:],
        )
    if result.report and _is_believed(result.report):
        return _reported(step, result.report)
    return _plain_failure(step, result, log, kept)


def _is_believed(report: Mapping[str, Any]) -> bool:
    """A build may say that it failed or that its recipe is wrong, not that the host or the store is."""
    details = report.get("details", [])
    return isinstance(details, list) and EXIT_STATUS.get(str(report.get("code"))) in (2, 3)


def _reported(step: Build, report: Mapping[str, Any]) -> CcError:
    """A builder's own explanation, with its inputs called by the names that a person knows."""
    where = step.where
    label = step.labels.get(str(report.get("input")))
    if label:
        where = f"{label}:{report['line']}" if report.get("line") else label
    details = tuple(
        _with_labels(str(line), step.labels) for line in report.get("details", [])[:_MOST_DETAILS]
    )
    hint = report.get("hint")
    return CcError(
        str(report["code"]),
        f"{step.name}: {_with_labels(str(report.get('message', '')), step.labels)}",
        where=where or None,
        hint=_with_labels(str(hint), step.labels) if hint else None,
        details=details,
    )


def _with_labels(text: str, labels: Mapping[str, str]) -> str:
    for name in sorted(labels, key=len, reverse=True):
        text = text.replace(f"/in/{name}", labels[name]).replace(name, labels[name]) if "-" in name else text
    return text


def _with_steps(text: str, step: Build) -> str:
    """A line of a log with the places of inputs called by what a person knows them as: a file, or a target."""
    for name, ref in step.inputs.items():
        text = text.replace(f"/in/{name}/", f"{step.labels.get(name, ref.step)}/")
    return text


def _plain_failure(step: Build, result: BuildResult, log: BuildLog, kept: Path | None) -> CcError:
    message = f"{step.name} failed with exit status {result.exit_status}"
    if log.first_error:
        message += f"; the first error is {_with_steps(log.first_error, step)}"
    hints = [f"`ccstore log {step.name}` shows the whole log"]
    if any("Read-only file system" in line for line in log.tail):
        hints.append("a build may write to /out, /build and /tmp only")
    if kept:
        hints.append(f"`ccstore shell {step.name}` enters it as it is, kept at {kept}")
        if result.command:
            hints.append(f"`sh {kept / AGAIN}` runs it again on that")
    else:
        hints.append("`--shell-on-failure` enters it, `--keep-failed` keeps its folder")
    return CcError(
        "build-failed", message, where=step.where or None, hint="; ".join(hints), details=tuple(log.tail)
    )
