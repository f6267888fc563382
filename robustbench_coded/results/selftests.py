"""The self-tests of a run's subjects as checks: what failed by name, and the rest in one line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustbench_coded.results.manifest import part
from robustbench_coded.results.summary_rows import Subject
from robustbench_coded.runs.folder import read_selftests
from robustbench_coded.statistics.check import Check

NAME = "self-tests"
_NEXT = "settle it without the defence's gradients"
_RUN_NEXT = ("square-1000", "transfer-pgd-20")
_OUTCOMES = ("passed", "failed", "not applicable")


def selftest_checks(path: Path, manifest: dict[str, Any]) -> Mapping[Subject, tuple[Check, ...]]:
    """By subject; nothing for subjects of runs from before there were self-tests."""
    probes = manifest.get("probes")
    found = {}
    for probe in probes if isinstance(probes, list) else []:
        identity = part(probe, "selftests")
        if isinstance(identity, str):
            subject = Subject(*(part(probe, name) for name in Subject._fields))
            found[subject] = _checks(read_selftests(path, identity))
    return found


def _checks(data: dict[str, Any] | None) -> tuple[Check, ...]:
    tests = part(data, "tests")
    if not isinstance(tests, list) or not tests or not all(_readable(test) for test in tests):
        missing = Check(NAME, "not run", "The attacks were not self-tested.", next_step="run it again")
        return (missing,)
    by_outcome = {outcome: [t for t in tests if t["outcome"] == outcome] for outcome in _OUTCOMES}
    failed = tuple(
        Check(
            f"{NAME}: {test['name']}",
            "failed",
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
    return (Check(NAME, "passed", f"{finding}."),)


def _readable(test: Any) -> bool:
    figures = part(test, "figures")
    return (
        all(isinstance(part(test, name), str) for name in ("name", "finding"))
        and part(test, "outcome") in _OUTCOMES
        and isinstance(figures, dict)
        and all(type(value) in (int, float) for value in figures.values())
    )
