"""steps.jsonl: the steps of an evaluation, and what each was decided by, so that they can be decided again.

A line holds one decision of the scheduler: its step (null behind the last one), and what is new in its
evidence.
"""

from dataclasses import replace
from pathlib import Path

import msgspec
from msgspec import Struct

from robustbench_coded.evaluation.planning.cases import PlannedCase
from robustbench_coded.evaluation.session.policies import next_step
from robustbench_coded.evaluation.session.schedule import EvaluationPlan, Evidence, Standing, Step
from robustbench_coded.runs.folder import STEPS
from robustbench_coded.schema.case import Case


class Decision(Struct, frozen=True, omit_defaults=True):
    """A line of steps.jsonl.

    Attributes:
        shares, standings: those that are new or have changed.
        submissions, checks: all of them; None where they are those of the line before.
    """

    step: Step | None
    shares: tuple[tuple[PlannedCase, float], ...] = ()
    standings: tuple[tuple[Case, Standing], ...] = ()
    submissions: tuple[PlannedCase, ...] | None = None
    checks: tuple[PlannedCase, ...] | None = None


def decision_line(evidence: Evidence, step: Step | None, before: Evidence | None) -> str:
    """A decision as a line of JSON.

    Args:
        before: the evidence of the line before.
    """
    old = before or Evidence()
    shares = ((_bare(c), share) for c, share in evidence.shares.items() if old.shares.get(c) != share)
    changed = (pair for pair in evidence.standings.items() if old.standings.get(pair[0]) != pair[1])
    cases = () if step is None else (replace(part, case=_bare(part.case)) for part in step.cases)
    random = () if step is None else (replace(part, case=_bare(part.case)) for part in step.random)
    decision = Decision(
        step=None if step is None else replace(step, cases=tuple(cases), random=tuple(random)),
        shares=tuple(shares),
        standings=tuple(changed),
        submissions=_changed(evidence.submissions, old.submissions),
        checks=_changed(evidence.checks, old.checks),
    )
    return msgspec.json.encode(decision).decode() + "\n"


def replay(plan: EvaluationPlan, path: Path) -> list[tuple[Step | None, Step | None]]:
    """Asks the scheduler again for every decision of a run: (what it decided then, what it decides now).

    Args:
        plan: of the evaluation, from its options.
        path: the run folder.

    Raises:
        OSError: there is no steps.jsonl.
        msgspec.ValidationError: a line is not a decision.
    """
    decisions, evidence = [], Evidence()
    for line in (path / STEPS).read_bytes().splitlines():
        told = msgspec.json.decode(line, type=Decision)
        evidence = replace(
            evidence,
            shares={**evidence.shares, **dict(told.shares)},
            standings={**evidence.standings, **dict(told.standings)},
            submissions=evidence.submissions if told.submissions is None else told.submissions,
            checks=evidence.checks if told.checks is None else told.checks,
        )
        decisions.append((told.step, next_step(plan, evidence)))
        if told.step is not None:
            evidence = replace(evidence, steps=(*evidence.steps, told.step))
    return decisions


def _changed(
    cases: tuple[PlannedCase, ...], before: tuple[PlannedCase, ...]
) -> tuple[PlannedCase, ...] | None:
    return None if cases == before else tuple(map(_bare, cases))


def _bare(case: PlannedCase) -> PlannedCase:
    """A case without the batches of what is submitted, of which nothing is decided."""
    submission = case.submission
    if submission is None:
        return case
    sources = tuple(
        (replace(source[0], groups=(), victims=(), images=0, id="", attacked=(), keep=False),)
        for source in submission.sources
    )
    return replace(case, submission=replace(submission, sources=sources))
