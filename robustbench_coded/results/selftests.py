"""The self-tests of a run's subjects: one by one, and as checks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from robustbench_coded.runs.folder import read_selftests
from robustbench_coded.schema.case import SubjectKey
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.words import (
    GRADIENT_SELF_TESTS,
    RELAXED_CHECK,
    RELAXED_SELF_TEST,
    CheckName,
    CheckOutcome,
)
from robustbench_coded.statistics.check import Check, NextStep, run_attacks
from robustbench_coded.statistics.gradients import WITHOUT_GRADIENTS

_NO_ATTACK = "no attack answers {}: look for its cause in the defence"
_RUN_NEXT = ("square-1000", "transfer-pgd-20")
_OUTCOMES = ("passed", "failed", "not applicable")


class SelfTestResult(NamedTuple):
    """One self-test of one subject."""

    name: str
    outcome: str
    finding: str
    figures: dict[str, float]


def selftest_results(path: Path, manifest: RunManifest) -> Mapping[SubjectKey, tuple[SelfTestResult, ...]]:
    """By subject; nothing for subjects without self-tests, or whose results cannot be read."""
    found = {
        probe.subject: _tests(read_selftests(path, probe.selftests))
        for probe in manifest.probes
        if probe.selftests is not None
    }
    return {subject: tests for subject, tests in found.items() if tests}


def selftest_checks(path: Path, manifest: RunManifest) -> Mapping[SubjectKey, tuple[Check, ...]]:
    """By subject; nothing for subjects of runs from before there were self-tests."""
    return {
        probe.subject: _checks(read_selftests(path, probe.selftests))
        for probe in manifest.probes
        if probe.selftests is not None
    }


def _tests(data: dict[str, Any] | None) -> tuple[SelfTestResult, ...]:
    tests = (data or {}).get("tests")
    if not isinstance(tests, list) or not all(_readable(test) for test in tests):
        return ()
    return tuple(
        SelfTestResult(
            test["name"],
            test["outcome"],
            test["finding"],
            {name: float(value) for name, value in test["figures"].items()},
        )
        for test in tests
    )


def _checks(data: dict[str, Any] | None) -> tuple[Check, ...]:
    tests = _tests(data)
    if not tests:
        missing = Check(
            CheckName.SELF_TESTS,
            CheckOutcome.NOT_RUN,
            "The attacks were not self-tested.",
            next_step=NextStep("run it again"),
        )
        return (missing,)
    by_outcome = {outcome: [t for t in tests if t.outcome == outcome] for outcome in _OUTCOMES}
    failed = tuple(
        Check(
            f"{CheckName.SELF_TESTS}: {test.name}",
            CheckOutcome.FAILED,
            test.finding,
            test.figures,
            next_step=_next_step(test.name),
        )
        for test in by_outcome["failed"]
        if test.name != RELAXED_SELF_TEST  # it says what may answer for the others
    )
    if failed:
        relaxed = (test for test in by_outcome["passed"] if test.name == RELAXED_SELF_TEST)
        return (*failed, *(Check(RELAXED_CHECK, CheckOutcome.PASSED, t.finding, t.figures) for t in relaxed))
    passed, other = by_outcome["passed"], by_outcome["not applicable"]
    finding = f"{len(passed)} passed ({', '.join(test.name for test in passed)})"
    if other:
        finding += f"; not applicable: {', '.join(test.name for test in other)}"
    return (Check(CheckName.SELF_TESTS, CheckOutcome.PASSED, f"{finding}."),)


def _next_step(name: str) -> NextStep | None:
    if name in GRADIENT_SELF_TESTS:
        return run_attacks(*_RUN_NEXT, how=WITHOUT_GRADIENTS)
    return NextStep(_NO_ATTACK.format(repr(name)))


def _readable(test: Any) -> bool:
    if not isinstance(test, dict):
        return False
    figures = test.get("figures")
    return (
        all(isinstance(test.get(name), str) for name in ("name", "finding"))
        and test.get("outcome") in _OUTCOMES
        and isinstance(figures, dict)
        and all(type(value) in (int, float) for value in figures.values())
    )
