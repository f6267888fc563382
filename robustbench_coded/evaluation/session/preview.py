"""Preview of an evaluation: what its planned attacks cost, without running or writing anything. Random
batches, submissions and what checks ask for depend on outcomes, and are not in it.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import PlannedCase
from robustbench_coded.evaluation.protocol.plan import EvaluationPlan
from robustbench_coded.evaluation.protocol.rungs import RUNGS, VERSION, quickest
from robustbench_coded.evaluation.session.planning import planned_evaluation
from robustbench_coded.evaluation.setup.prepare import made_ready
from robustbench_coded.judge.run import load_manifest
from robustbench_coded.runs.folder import holds_run, read_run
from robustbench_coded.schema.manifest import as_sentences
from robustbench_coded.schema.words import CLEAN, Rung

ALWAYS = (Rung.CLEAN, Rung.QUICK, Rung.NAMED_ROWS)  # the rungs that run whatever comes out
Costs = dict[Rung, int]  # gradient evaluations, about


@dataclass(frozen=True)
class Preview:
    """An evaluation before it runs.

    Attributes:
        path: the run folder that it would write, or go on with.
        least: by rung, what runs if every subject falls to its first attack.
        most: by rung, all planned attacks on the first images, which run if none falls.
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
    """By rung, the cases that always run, and all that are planned.

    Args:
        left: what a case costs.
    """
    judged = [
        attacks for comparison, attacks in plan.attacks.items() if attacks and comparison in plan.judged
    ]
    quick = {quickest(plan, attacks) for attacks in judged}
    least, most = ({rung.name: 0 for rung in RUNGS} for _ in range(2))
    for case in plan.cases:
        rung = _rung(plan, case, quick)
        if not plan.rungs or rung in plan.rungs:
            most[rung] += left(case)
            least[rung] += left(case) if rung in ALWAYS else 0
    return least, most


def _rung(plan: EvaluationPlan, case: PlannedCase, quick: Collection[PlannedCase]) -> Rung:
    """The first that asks for a case."""
    if case.attack == CLEAN:
        return Rung.CLEAN
    if case in quick:
        return Rung.QUICK
    if case in plan.rows:
        return Rung.NAMED_ROWS
    return Rung.BEFORE_POSITIVE if case in plan.deferred else Rung.ADAPTIVE
