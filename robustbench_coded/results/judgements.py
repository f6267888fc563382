"""What the statistics say about each threat model of a run: verdict, checks, decomposition."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from robustbench_coded.reports.run.collateral import malicious_of
from robustbench_coded.results.manifest import asked_budgets, part
from robustbench_coded.results.summary_rows import Budget, Subject, budget_of, subject_of
from robustbench_coded.statistics.case_results import Row
from robustbench_coded.statistics.check import Check
from robustbench_coded.statistics.checks import run_checks
from robustbench_coded.statistics.decomposition import Part, decomposition
from robustbench_coded.statistics.outcomes import RowKey
from robustbench_coded.statistics.verdict import Verdict, base_ensemble, verdict


@dataclass(frozen=True)
class Judgement:
    """One subject under one threat model and budget.

    Attributes:
        key: the row key of its ensemble.
        parts: where its accuracy above the base model comes from; given once, where the draw is unknown.
        unbounded_eps: the eps from which on any image reaches any other.
    """

    key: RowKey
    verdict: Verdict
    checks: tuple[Check, ...]
    parts: tuple[Part, ...]
    unbounded_eps: float

    @property
    def subject(self) -> Subject:
        return subject_of(self.key)

    @property
    def budget(self) -> Budget:
        return budget_of(self.key)

    @property
    def threat(self) -> str:
        return self.key.threat


def judgements_of(
    rows: list[Row],
    manifest: dict[str, Any],
    selftests: Mapping[Subject, tuple[Check, ...]] = MappingProxyType({}),
) -> Iterator[Judgement]:
    """A judgement for every ensemble of a run, in its order.

    Not for collateral damage: there the base model, which answers inputs one by one, has nothing to lose.

    Args:
        selftests: the checks of each subject that came of its self-tests.
    """
    asked = asked_budgets(manifest)
    defended = any(row.key.defence != "standard" for row in rows)
    for row in rows:
        if row.key.attack != "ensemble" or budget_of(row.key) not in asked:
            continue
        if malicious_of(row.key.threat) is not None:
            continue
        unbounded = _unbounded(budget_of(row.key), row.key.checkpoint, manifest)
        checks = tuple(run_checks(rows, row, _gradients(manifest, row.key), unbounded))
        checks = tuple(_if_not_stopped(check, row.key, manifest) for check in checks)
        checks += selftests.get(subject_of(row.key), ())
        base = base_ensemble(rows, row)
        # A claim is about a defence; on a run without one it is about the model itself.
        claim = _claim(manifest) if row.key.defence != "standard" or not defended else None
        told = () if row.key.threat.endswith("/known") else tuple(decomposition(rows, row))
        yield Judgement(row.key, verdict(row, base, checks, claim), checks, told, unbounded)


def _if_not_stopped(check: Check, key: RowKey, manifest: dict[str, Any]) -> Check:
    """The check; not run where it compares lengths that a budget of images made equal."""
    if not check.name.startswith("twice") or len(check.attacks) < 2 or check.outcome != "passed":
        return check
    of_subject = [row for row in manifest["rows"] if row.get("stopped") is True]
    of_subject = [
        row for row in of_subject if all(row[name] == getattr(key, name) for name in Subject._fields)
    ]
    if not {row["attack"] for row in of_subject} & set(check.attacks):
        return check
    finding = f"{' and '.join(check.attacks)} were stopped at one cost, short of what their names say."
    return replace(check, outcome="not run", finding=finding, next_step="give more images (--budget)")


def _claim(manifest: dict[str, Any]) -> float | None:
    """The accuracy that the last invocation with a claim claims."""
    for invocation in reversed(manifest["invocations"]):
        claim = part(invocation, "options", "claim")
        if type(claim) in (int, float) and 0 <= claim <= 1:
            return float(claim)
    return None


def _unbounded(budget: Budget, checkpoint: str, manifest: dict[str, Any]) -> float:
    """The eps from which on any image reaches any other."""
    shape = part(manifest, "data", "image_shape")
    pixels = math.prod(shape) if isinstance(shape, list) and all(type(s) is int for s in shape) else 1
    reach = math.sqrt(pixels) if budget.norm == "l2" else 1.0
    if budget.eps_space != "normalized":
        return reach
    facts = [c for c in manifest["checkpoints"] if c["name"] == checkpoint]
    deviations = part(facts, 0, "normalisation", "std")
    usable = [d for d in deviations if type(d) is float and d > 0] if isinstance(deviations, list) else []
    return reach / min(usable, default=1.0)


def _gradients(manifest: dict[str, Any], key: RowKey) -> dict[str, float] | None:
    """What the probe measured on the gradients of a subject, if it ran."""
    probes = manifest.get("probes")
    for probe in probes if isinstance(probes, list) else []:
        if all(
            part(probe, name) == value for name, value in zip(Subject._fields, subject_of(key), strict=True)
        ):
            measured = part(probe, "gradients")
            if isinstance(measured, dict):
                return {k: float(v) for k, v in measured.items() if type(v) in (int, float)}
    return None
