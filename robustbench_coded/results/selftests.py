"""The self-tests of a run's subjects as checks: what failed by name, and the rest in one line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustbench_coded.runs.folder import read_selftests
from robustbench_coded.schema.case import SubjectKey
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.words import CheckName, CheckOutcome
from robustbench_coded.statistics.check import Check

_NEXT = "settle it without the defence's gradients"
_RUN_NEXT = ("square-1000", "transfer-pgd-20")
_OUTCOMES = ("passed", "failed", "not applicable")


def selftest_checks(path: Path, manifest: RunManifest) -> Mapping[SubjectKey, tuple[Check, ...]]:
    """By subject; nothing for subjects of runs from before there were self-tests."""
    return {
        probe.subject: _checks(read_selftests(path, probe.selftests))
        for probe in manifest.probes
        if probe.selftests is not None
    }


def _checks(data: dict[str, Any] | None) -> tuple[Check, ...]:
    tests = (data or {}).get("tests")
    if not isinstance(tests, list) or not tests or not all(_readable(test) for test in tests):
        missing = Check(
            CheckName.SELF_TESTS,
            CheckOutcome.NOT_RUN,
            "The attacks were not self-tested.",
            next_step="run it again",
        )
        return (missing,)
    by_outcome = {outcome: [t for t in tests if t["outcome"] == outcome] for outcome in _OUTCOMES}
    failed = tuple(
        Check(
            f"{CheckName.SELF_TESTS}: {test['name']}",
            CheckOutcome.FAILED,
            test["finding"],
            {name: float(value) for name, value in test["figures"].items()},
            next_step=f"{_NEXT}: run {' and '.join(_RUN_NEXT)}",
            run_next=_RUN_NEXT,
        )
        for test in by_outcome["failed"]
    )
    if failed:
        return failed
    passed, other = by_outcome["passed"], by_outcome["not applicable"]
    finding = f"{len(passed)} passed ({', '.join(test['name'] for test in passed)})"
    if other:
        finding += f"; not applicable: {', '.join(test['name'] for test in other)}"
    return (Check(CheckName.SELF_TESTS, CheckOutcome.PASSED, f"{finding}."),)


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
