"""Preview of an evaluation: its steps and their time on this machine, without running or writing anything.

The protocol plans as in a run, on made-up evidence: once as if everything fell to its first attack, once
as if nothing fell and every check needed its usual attacks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from attacks import presets
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.execution.run_unit import random_units
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import PlannedCase, ProbedSubject
from robustbench_coded.evaluation.planning.comparisons import Comparison
from robustbench_coded.evaluation.protocol.rungs import RUNGS, VERSION, next_step
from robustbench_coded.evaluation.protocol.state import (
    CaseAtSize,
    EvaluationPlan,
    Evidence,
    OpenCheck,
    Outcome,
    SettingStatus,
    Step,
)
from robustbench_coded.evaluation.session.evaluation import Evaluation
from robustbench_coded.evaluation.session.planning import planned_evaluation
from robustbench_coded.evaluation.session.rates import Rates
from robustbench_coded.evaluation.setup.prepare import made_ready
from robustbench_coded.judge.run import load_manifest
from robustbench_coded.reports.text.formatting import duration
from robustbench_coded.runs.folder import MANIFEST, read_run
from robustbench_coded.schema.manifest import as_sentences
from robustbench_coded.schema.words import CLEAN, STANDARD, CheckName, VerdictName

# What attacks leave a defence with a positive verdict, and its base model.
POSITIVE, BASE = 0.6, 0.1
USUAL_CHECKS = (
    OpenCheck(CheckName.TRANSFER_OR_BLACK_BOX, False, presets.SEARCHES),
    OpenCheck(CheckName.TWICE_THE_STEPS, False, (presets.TWICE_THE_LOSS,)),
    OpenCheck(CheckName.TWICE_THE_DRAWS, False, (presets.AVERAGED.format(20),)),
    OpenCheck(CheckName.TWICE_THE_RESTARTS, False, (presets.RESTARTED,)),
)


class Cost(NamedTuple):
    """Gradient evaluations that are still to be computed, about; seconds: shared out over the workers."""

    images: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Preview:
    """An evaluation before it runs.

    Attributes:
        path: the run folder that it would write, or go on with.
        negative: by rung, if every subject falls to its first attack.
        positive: by rung, if none falls.
        notes: what else the user should know.
    """

    path: Path
    negative: dict[str, Cost]
    positive: dict[str, Cost]
    notes: tuple[str, ...]

    @staticmethod
    def total(costs: dict[str, Cost]) -> Cost:
        return Cost(sum(cost.images for cost in costs.values()), sum(cost.seconds for cost in costs.values()))

    def as_data(self) -> dict[str, Any]:
        """Plain JSON data; times in seconds."""
        ways = {"negative": self.negative, "positive": self.positive}
        rungs = [
            {"rung": rung, **{way: costs[rung]._asdict() for way, costs in ways.items()}}
            for rung in self.negative
        ]
        totals = {way: self.total(costs)._asdict() for way, costs in ways.items()}
        return {
            "run": str(self.path),
            "protocol": VERSION,
            "rungs": rungs,
            **totals,
            "notes": list(self.notes),
        }


def preview(
    config: EvalConfig,
    in_memory: InMemory | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Preview:
    """Loads and probes everything as ``evaluate`` does, plans it and times the networks.

    Args:
        say: receives what is done next, before it is done.

    Raises:
        InputError: the options, a checkpoint or the data are not usable.
    """
    prepared, path = made_ready(config, in_memory, say)
    going_on = (path / MANIFEST).exists() and not config.overwrite
    old, remarks = load_manifest(path) if going_on else None, []
    try:
        evaluation = planned_evaluation(prepared, old, path)
    except InputError:
        if old is None:
            raise
        old, evaluation = None, planned_evaluation(prepared, None, path)
        remarks = [f"{path} holds another evaluation; this one needs a folder of its own, --out NEW"]
    committed = frozenset() if old is None else frozenset(read_run(path, old.unit_ids)[1])
    say("timing the networks on a few images")
    rates = Rates(evaluation.prepared)
    negative, positive = (
        _costs(evaluation, forecast(evaluation.plan, positive=positive), committed, rates)
        for positive in (False, True)
    )
    notes = as_sentences([*evaluation.prepared.notes, *evaluation.notes, *remarks])
    return Preview(path, negative, positive, tuple(notes))


def outlook(evaluation: Evaluation) -> str:
    """How long a new evaluation takes on this machine, a sentence."""
    rates = Rates(evaluation.prepared)
    least, most = (
        Preview.total(_costs(evaluation, forecast(evaluation.plan, positive=positive), frozenset(), rates))
        for positive in (False, True)
    )
    return (
        f"Takes about {duration(least.seconds)} if the first attacks succeed and {duration(most.seconds)} if "
        "none does"
    )


def forecast(plan: EvaluationPlan, *, positive: bool) -> tuple[Step, ...]:
    """The steps of an evaluation in which everything falls to its first attack, or nothing falls."""
    evidence = Evidence()
    while (step := next_step(plan, evidence)) is not None:
        ran = evidence.after(step)
        outcomes = {case: Outcome(_share(plan, case, positive=positive)) for case in ran.sizes}
        ran = replace(ran, outcomes=outcomes)
        standings = {
            setting: _status_of(plan, ran, comparison, positive=positive)
            for comparison, settings in plan.judged.items()
            for setting in settings
            if any(case in ran.sizes for case in plan.attacks[comparison])
        }
        evidence = replace(ran, standings=standings)
    return evidence.steps


def _is_base(plan: EvaluationPlan, subject: ProbedSubject) -> bool:
    return subject.spec == STANDARD and any(c.subject.spec != STANDARD for c in plan.judged)


def _share(plan: EvaluationPlan, case: PlannedCase, *, positive: bool) -> float:
    """The share that a case leaves."""
    if case.attack == CLEAN:
        return 1.0
    return (BASE if _is_base(plan, case.subject) else POSITIVE) if positive else 0.0


def _status_of(
    plan: EvaluationPlan, ran: Evidence, comparison: Comparison, *, positive: bool
) -> SettingStatus:
    if positive:
        if _is_base(plan, comparison.subject):
            return SettingStatus(VerdictName.BROKEN, final=True, could_fall=False)
        return SettingStatus(VerdictName.NO_FAILURE_FOUND, above_the_bar=True, checks=USUAL_CHECKS)
    scored = any(case in ran.random for case in plan.attacks[comparison])
    in_batches = comparison.subject.batch_dependent and comparison.inputs in ("batch", "victim")
    proven = scored or not in_batches or not plan.random_batches
    return SettingStatus(VerdictName.BROKEN, final=True) if proven else SettingStatus()


def _costs(
    evaluation: Evaluation, steps: tuple[Step, ...], committed: frozenset[str], rates: Rates
) -> dict[str, Cost]:
    """By rung, in the order of the table, without the units that are committed."""
    costs, counted = {rung.name: Cost() for rung in RUNGS}, set(committed)
    for step in steps:
        for part in step.parts:
            maker = evaluation.maker(part.size)
            if isinstance(part, CaseAtSize):
                units = maker.units(part.case)
            else:
                units = random_units(part.case, maker, part.batches)
            images = sum(unit.images for unit in units if unit.id not in counted)
            counted.update(unit.id for unit in units)
            before = costs[step.rung]
            seconds = before.seconds + rates.seconds([(part.case, images)])
            costs[step.rung] = Cost(before.images + images, seconds)
    return costs
