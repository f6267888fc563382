"""Preview of an evaluation: what its rungs cost, without running or writing anything. No outcome is made up:
one column has what always runs, the other all that a verdict may need before it is positive.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attacks import presets
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import PlannedCase
from robustbench_coded.evaluation.planning.comparisons import Comparison, random_batch_images
from robustbench_coded.evaluation.protocol.follow_up import follow_ups_of
from robustbench_coded.evaluation.protocol.plan import EvaluationPlan
from robustbench_coded.evaluation.protocol.random_batches import CLEAN_BATCHES
from robustbench_coded.evaluation.protocol.rungs import RUNGS, VERSION, few_clean_batches, quickest
from robustbench_coded.evaluation.session.planning import planned_evaluation
from robustbench_coded.evaluation.setup.prepare import made_ready
from robustbench_coded.judge.anytime import values_needed
from robustbench_coded.judge.checks import not_run
from robustbench_coded.judge.run import load_manifest
from robustbench_coded.runs.folder import holds_run, read_run
from robustbench_coded.schema.manifest import as_sentences
from robustbench_coded.schema.words import CLEAN, MARGIN, CheckName, Rung

# What checks ask of a defence that withstands everything planned.
USUAL_CHECKS = (
    not_run(CheckName.TRANSFER_OR_BLACK_BOX, "", *presets.SEARCHES),
    not_run(CheckName.TWICE_THE_STEPS, "", presets.TWICE_THE_LOSS),
    not_run(CheckName.TWICE_THE_DRAWS, "", presets.AVERAGED.format(20)),
    not_run(CheckName.TWICE_THE_RESTARTS, "", presets.RESTARTED),
)
Costs = dict[Rung, int]  # gradient evaluations, about


@dataclass(frozen=True)
class Preview:
    """An evaluation before it runs.

    Attributes:
        path: the run folder that it would write, or go on with.
        least: by rung, what runs if every subject falls to its first attack.
        most: what runs on the first images if none falls, and all that checks usually ask for.
        notes: what else the user should know.
    """

    path: Path
    least: Costs
    most: Costs
    notes: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        """Plain JSON data."""
        rungs = [{"rung": rung, "least": self.least[rung], "most": self.most[rung]} for rung in self.least]
        totals = {"least": sum(self.least.values()), "most": sum(self.most.values())}
        return {
            "run": str(self.path),
            "protocol": VERSION,
            "rungs": rungs,
            **totals,
            "notes": list(self.notes),
        }


def preview(
    config: EvalConfig,
    say: Callable[[str], None] = lambda text: None,
) -> Preview:
    """Loads and probes everything as ``evaluate`` does, and plans it.

    Args:
        say: receives what is done next, before it is done.

    Raises:
        InputError: the options, a checkpoint or the data are not usable.
    """
    prepared, path = made_ready(config, None, say)
    going_on = holds_run(path) and not config.overwrite
    old, remarks = load_manifest(path) if going_on else None, []
    try:
        evaluation = planned_evaluation(prepared, old, path)
    except InputError:
        if old is None:
            raise
        old, evaluation = None, planned_evaluation(prepared, None, path)
        remarks = [f"{path} holds another evaluation; this one needs a folder of its own, --out NEW"]
    committed = set() if old is None else set(read_run(path, old.unit_ids)[1])

    def left(case: PlannedCase) -> int:
        """What a case costs beyond what is committed."""
        size = evaluation.plan.start_of(case)
        return sum(u.images for u in evaluation.maker(size).units(case) if u.id not in committed)

    notes = as_sentences([*evaluation.prepared.notes, *evaluation.notes, *remarks])
    least, most = costs(evaluation.plan, left)
    return Preview(path, least, most, tuple(notes))


def costs(plan: EvaluationPlan, left: Callable[[PlannedCase], int]) -> tuple[Costs, Costs]:
    """By rung, what always runs; and that with all that verdicts may need on the first images.

    Args:
        left: what a case costs.
    """
    least: Costs = {rung.name: 0 for rung in RUNGS}
    always = _always(plan)
    for case, rung in always.items():
        least[rung] += left(case)
    for comparison in plan.judged:
        least[Rung.CONFIRM] += _confirming(plan, comparison) if least[Rung.QUICK] else 0
    most = dict(least)
    for comparison in plan.judged:
        for rung, case in _further(plan, comparison):
            if case not in always:
                most[rung] += left(case)
        if comparison.inputs == "batch":  # a forward for each of its attacks, on the others
            own = (c for c in plan.cases if c.attack == CLEAN and c.subject == comparison.subject)
            most[Rung.CROSS_EXAMINATION] += len(plan.attacks[comparison]) * left(next(own))
    clean = [case for case in plan.cases if few_clean_batches(plan, case, plan.start)]
    for costs_ in (least, most):
        costs_[Rung.MORE_EXAMPLES] += sum(CLEAN_BATCHES * random_batch_images(case) for case in clean)
    allowed = [rung.name for rung in RUNGS if not plan.rungs or rung.name in plan.rungs]
    return tuple({r: c if r in allowed else 0 for r, c in each.items()} for each in (least, most))  # type: ignore[return-value]


def _always(plan: EvaluationPlan) -> dict[PlannedCase, Rung]:
    """Each case that runs whatever comes out, and the rung that asks for it first."""
    seen: dict[PlannedCase, Rung] = {}
    for case in plan.cases:
        if case.attack == CLEAN:
            seen[case] = Rung.CLEAN
    for comparison, attacks in plan.attacks.items():
        if attacks and comparison in plan.judged:
            seen.setdefault(quickest(plan, attacks), Rung.QUICK)
    for case in plan.cases:
        if case in plan.rows:
            seen.setdefault(case, Rung.NAMED_ROWS)
    return seen


def _confirming(plan: EvaluationPlan, comparison: Comparison) -> int:
    """Random batches of which none is answered rightly."""
    if not comparison.subject.batch_dependent or comparison.inputs not in ("batch", "victim"):
        return 0
    case = quickest(plan, plan.attacks[comparison])
    count = values_needed(0.0, MARGIN, plan.at(plan.start).tail) or 0
    return count * random_batch_images(case) if plan.random_batches else 0


def _further(plan: EvaluationPlan, comparison: Comparison) -> Iterator[tuple[Rung, PlannedCase]]:
    """Every attack that an open verdict may need."""
    attacks = plan.attacks[comparison]
    for case in attacks:
        yield (Rung.BEFORE_POSITIVE if case in plan.deferred else Rung.ADAPTIVE), case
    if plan.checks and attacks and comparison.inputs == "batch":
        for check in USUAL_CHECKS:
            for case in follow_ups_of(check, attacks[0], list(attacks)):
                if case not in attacks and case.case not in [other.case for other in attacks]:
                    yield Rung.BEFORE_POSITIVE, case
