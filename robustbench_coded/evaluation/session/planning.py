"""The plan of an evaluation: every case that may run, on how many examples, and what may be spent; how long
images take here, and what further commands would do.
"""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import chain
from math import ceil
from pathlib import Path
from statistics import median

from msgspec import structs

from attacks import accelerator, crossover, gradients, naming
from attacks.presets import FOLLOWS_SHOWN, PRESETS
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.options.device import gradient_of_sum, worker_count
from robustbench_coded.evaluation.planning import plan as units
from robustbench_coded.evaluation.planning.cases import PlannedCase, Unit
from robustbench_coded.evaluation.planning.comparisons import (
    comparisons_judged,
    first_look,
    sample_sizes,
)
from robustbench_coded.evaluation.session.evaluation import Evaluation
from robustbench_coded.evaluation.session.listener import case_name
from robustbench_coded.evaluation.session.manifest import checked_against, code_going_on
from robustbench_coded.evaluation.session.policies import lacking, table_sizes
from robustbench_coded.evaluation.session.schedule import (
    EXTRAS_SHARE,
    TABLE_IMAGES,
    VERDICT_IMAGES,
    WHOLE_PIXELS,
    Ceilings,
    EvaluationPlan,
    Evidence,
    at_size,
    open_comparisons,
    waiting,
)
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.models.prepare import tf32
from robustbench_coded.runs.folder import read_failures
from robustbench_coded.schema.manifest import Outlook, RunManifest, SampleSizes
from robustbench_coded.schema.words import CONTROLS, LEFT_OUT
from robustbench_coded.threads import torch_threads

TIMED_PIXELS = 64 * 32 * 32  # small images go through a network in larger pieces
TIMED_SECONDS = 0.25
LONG_SECONDS = 2.0  # beside which warming up is little, so that once will do
MOST_TIMES = 20
NO_MEMORY_SECONDS = 1.0  # for an image that could not be timed; its units say why


class Rates:
    """Seconds for an image forwarded and differentiated, timed once for each checkpoint: for display, and to
    turn a wish for time into images once.

    A user's defence takes as long as it took when it was probed; our own take as long as their network.
    """

    def __init__(self, prepared: PreparedEvaluation):
        self._prepared = prepared
        self._timed: dict[str, float] = {}

    def together(self, units: Iterable[Unit]) -> float:
        """Seconds that all workers take for them."""
        context = self._prepared.context
        seconds = sum(unit.images * self.of(unit.case) for unit in units)
        return seconds / worker_count(self._prepared.config.workers, context.device)

    def of(self, case: PlannedCase) -> float:
        """For one image of a case: through its defence, or through the base model that its attack asks."""
        subject, context = case.subject, self._prepared.context
        of_base = case.attack not in CONTROLS and naming.parse(case.attack).estimator == "transfer"
        if not of_base and not callable(getattr(context.defence(subject), "images", None)):
            return context.probe_seconds[subject] / subject.images
        if subject.checkpoint not in self._timed:
            self._timed[subject.checkpoint] = self._time(subject.checkpoint)
        return self._timed[subject.checkpoint]

    @tf32(True)
    def _time(self, checkpoint: str) -> float:
        context, setup = self._prepared.context, self._prepared.setup
        height, width = context.data.image_shape[-2:]
        fitting = setup.fitting.get(checkpoint, setup.group_images)
        count = max(1, min(TIMED_PIXELS // (height * width), fitting, setup.examples))
        x = context.data.batch(range(count))[0].to(context.device)
        model = context.gradients(checkpoint).model
        taken: list[float] = []
        with torch_threads(setup.threads):
            while len(taken) < MOST_TIMES and sum(taken) < (TIMED_SECONDS if taken[2:] else LONG_SECONDS):
                start = time.perf_counter()
                try:
                    gradient_of_sum(model, x)
                except (RuntimeError, MemoryError) as error:
                    if gradients.is_out_of_memory(error):
                        return NO_MEMORY_SECONDS
                    raise
                accelerator.synchronise(context.device)
                taken.append(time.perf_counter() - start)
        # The first pays for warming up; the others for whatever else the machine does, as the run will.
        return median(taken[1:] or taken) / count


def planned_evaluation(
    prepared: PreparedEvaluation, old: RunManifest | None, path: Path, rates: Rates | None = None
) -> Evaluation:
    """Every case that may run, and on how many examples.

    Where every case on all examples costs no more than the table may, all of it runs. A run folder keeps the
    sample sizes that it was begun with, and the rate by which a wish for time was counted.

    Raises:
        InputError: the folder was made with something else.
    """
    said: list[str] = []
    if old is not None:
        checked_against(old, prepared.identity, prepared.setup.checkpoints, path)
        code, said = code_going_on(old, prepared.code, path, stopped=_stopped(old, prepared.config, path))
        prepared = prepared.resumed_from(old).with_code(code)
    config, before = prepared.config, None if old is None else old.sequential
    examples = prepared.setup.examples
    cases, notes = units.cases_for(prepared.requested, prepared.setup.conditions, prepared.subjects)
    notes += said
    whole = config.until is None and config.time is None and (config.all or config.limit is not None)
    height, width = prepared.context.data.image_shape[-2:]
    smaller = max(1.0, WHOLE_PIXELS / (height * width))
    if config.until is None and before is None and not whole:
        maker = prepared.maker()
        cheap = sum(map(maker.images, cases)) <= TABLE_IMAGES * smaller
        whole = config.time is None and (old is not None or cheap)
    fixed = before is None and (whole or old is not None)
    if before is not None:
        sizes = before.sample_sizes
    else:
        ladder = sample_sizes(examples, min(max(config.batch_size) * (config.batches_kept or 1), examples))
        sizes = (examples,) if fixed else ladder
    prepared = replace(prepared, sizes=sizes)
    plan = _plan(prepared, cases, smaller, whole=whole)
    sequential = None
    if not fixed or config.time is not None:
        rate = None if before is None else before.seconds_per_image
        if config.time is not None:
            rate = rate or _seconds_per_image(plan, rates or Rates(prepared))
            workers = worker_count(config.workers, prepared.context.device)
            images = int(config.time / rate * workers)
            # Half for the table, where there is one, the rest for the verdicts in equal parts.
            table = 0 if plan.ceilings.table == 0 else images // 2
            verdict = (images - table) // max(len(plan.judged), 1)
            plan = replace(plan, ceilings=Ceilings(verdict, table, plan.ceilings.extras))
        sequential = SampleSizes(
            until=config.until or "",
            sample_sizes=sizes,
            seconds_per_image=rate,
        )
    return Evaluation(prepared, plan, tuple(notes), old, sequential)


def _stopped(old: RunManifest, config: EvalConfig, path: Path) -> bool:
    """Whether a run has not come to its end, or has units that failed, and this is its command again."""
    if old.finished and not read_failures(path, old.unit_ids):
        return False
    same = json.loads(json.dumps(config.as_data()))
    return all(
        old.last.options.get(name) == same[name] for name in same.keys() - {"command", "overwrite", "out"}
    )


def _plan(
    prepared: PreparedEvaluation, cases: Sequence[PlannedCase], smaller: float, *, whole: bool
) -> EvaluationPlan:
    """What may run, of these cases.

    Args:
        smaller: how many images cost what one of 32 x 32 costs; 1 for all larger ones.
        whole: whether all of them run on all examples.
    """
    config, sizes = prepared.config, prepared.sizes
    judged = comparisons_judged(prepared.requested, cases)
    claim = prepared.requested.claimed
    claimed = {
        comparison: config.claim or 0.0
        for comparison, settings in judged.items()
        if claim is not None
        and config.claim_votes is None  # random batches have one draw each, and no majority
        and any((str(key.threat), key.perturbation.eps) == claim for key in settings)
    }

    @cache
    def images(case: PlannedCase, size: int) -> int:
        return prepared.maker(size).images(case)

    table = [case for case in cases if in_table(config, case)]
    # The paper's cases, controls, and what no preset has, so that the user has named it.
    of_paper, known = {*PRESETS["paper"], *CONTROLS}, {*chain(*PRESETS.values()), *CONTROLS}
    shown = [
        case
        for case in table
        if (case.attack in of_paper and case.threat.inputs == "batch") or case.attack not in known
    ]
    # No preset with checks was asked for: who names his attacks wants those.
    named = config.until is None and not config.checks
    start = sizes[-1] if whole else first_look(sizes)
    extras = int(EXTRAS_SHARE * sum(images(case, start) for case in table)) if named else None
    if config.until is not None:
        ceilings = Ceilings(None, 0, None)
    else:
        ceilings = Ceilings(int(VERDICT_IMAGES * smaller), int(TABLE_IMAGES * smaller), extras)
        ceilings = Ceilings(None, None, extras) if whole else ceilings
    return EvaluationPlan(
        cases=tuple(cases),
        judged=judged,
        sizes=sizes,
        start=start,
        images=images,
        table=frozenset(table),
        first_rows=frozenset(() if config.time is not None else table if named else shown),
        ceilings=ceilings,
        table_first=whole,
        checks=config.checks,
        margin=config.margin / 100,
        # A sequence has its order, in which what was perturbed for it is submitted.
        random_batches=config.mix is None and not config.batches_kept,
        claimed=claimed,
        classes=prepared.data_facts.classes or 1,
        relus=cache(partial(_relus, prepared)),
    )


def in_table(config: EvalConfig, case: PlannedCase) -> bool:
    """Whether a case runs whatever the others find; not attacks of presets that only open verdicts need."""
    if case.attack not in config.second_attacks or case.attack == config.claim_attack:
        return True
    return case.threat.collateral or (case.attack == FOLLOWS_SHOWN and case.subject.randomised)


def _relus(prepared: PreparedEvaluation, checkpoint: str) -> int:
    """How many ReLUs answer an image; 0 where crossover is not run."""
    if not prepared.config.checks or prepared.config.norm == "l0":
        return 0
    context = prepared.context
    x = context.data.batch([0])[0].to(context.device)
    with accelerator.random_states_kept():  # a network may sample
        return crossover.relus(context.model(checkpoint), x)


def _seconds_per_image(plan: EvaluationPlan, rates: Rates) -> float:
    """Of all that is planned, on the first sample size."""
    images = {case: plan.images(case, plan.start) for case in plan.cases}
    seconds = sum(cost * rates.of(case) for case, cost in images.items())
    return round(seconds / sum(images.values()), 9) or 1e-9


def outlook_of(evaluation: Evaluation, evidence: Evidence) -> list[Outlook]:
    """What further commands would do, what did not fit, and what these would cost."""
    plan, config = evaluation.plan, evaluation.prepared.config
    found: list[Outlook] = []
    everything = replace(plan, ceilings=Ceilings(None, None))
    cases = table_sizes(everything, evidence)
    rest = sum(part.images for case in cases for part in at_size(plan, evidence, [case], cases[case]))
    if not plan.table_first and rest:
        found.append(Outlook(purpose="all", option="--all", images=rest))
    if images := lacking(plan, evidence):
        option = "--until settled"
        if config.time is not None:
            option = f"--time {ceil(2 * config.time / 60)}m"
        elif plan.ceilings.extras is not None:
            option = "--checks"
        found.append(Outlook(purpose="settle", option=option, images=images))
        open_ = open_comparisons(plan, evidence)
        attacks = [case for comparison in open_ for case in waiting(plan, evidence, comparison)]
        offered = (*(evidence.checks if plan.checks else ()), *evidence.submissions)
        attacks += [case for case in offered if any(comparison.holds(case) for comparison in open_)]
        found += _left_out(plan, attacks, evidence, option)
    if plan.ceilings.table != 0:
        found += _left_out(plan, [case for case in plan.cases if case in plan.table], evidence, "--all")
    mean = _seconds_per_image(plan, Rates(evaluation.prepared)) if found else 0.0
    once = {(one.purpose, one.case): one for one in reversed(found)}  # a row may be in both lists
    return [structs.replace(one, seconds=round(one.images * mean, 1)) for one in reversed(once.values())]


def _left_out(
    plan: EvaluationPlan, cases: Iterable[PlannedCase], evidence: Evidence, option: str
) -> list[Outlook]:
    parts = at_size(plan, evidence, (case for case in cases if case not in evidence.sizes), plan.start)
    submitted = [part.images for part in parts if part.case.submission]
    named = [(case_name(part.case), part.images) for part in parts if not part.case.submission]
    if submitted:
        named.append((f"perturbed inputs submitted elsewhere ({len(submitted)})", sum(submitted)))
    return [Outlook(purpose=LEFT_OUT, case=name, option=option, images=images) for name, images in named]
