"""Runs the steps of an evaluation: the scheduler says which, the engine computes their units, outcomes are
committed, and the scheduler is asked again.
"""

from dataclasses import replace

from robustbench_coded.evaluation.engine.run import Engine
from robustbench_coded.evaluation.planning.comparisons import Comparison
from robustbench_coded.evaluation.session.listener import Stop
from robustbench_coded.evaluation.session.policies import SELF_TESTS, next_step, table_sizes
from robustbench_coded.evaluation.session.recording import Recorder
from robustbench_coded.evaluation.session.run_plan import run_plan
from robustbench_coded.evaluation.session.schedule import Evidence, Step, settled, size_of
from robustbench_coded.evaluation.session.selftesting import run_selftests
from robustbench_coded.schema.words import VerdictName


def run_steps(recorder: Recorder, engine: Engine) -> Evidence:
    """Runs steps until nothing is left to do; returns what is known then.

    A folder that was interrupted comes to the same steps again: what it has committed is not computed again.
    """
    plan = recorder.evaluation.plan
    evidence, closed = recorder.evidence(()), set[Comparison]()
    while True:
        step = next_step(plan, evidence)
        recorder.write_decision(evidence, step)
        if step is None:
            break
        steps = (*evidence.steps, step)
        if step.parts:
            recorder.listener.begun(step)
        recorder.write(steps)
        _compute(recorder, engine, steps)
        if step.policy == SELF_TESTS:
            run_selftests(recorder.folder, recorder.evaluation.prepared, recorder.listener)
        evidence = recorder.evidence(steps)
        _close(recorder, evidence, [c for c in settled(plan, evidence) if c not in closed])
        closed.update(settled(plan, evidence))
    standing = [
        comparison
        for comparison, settings in plan.judged.items()
        if comparison not in closed
        and all(evidence.standing(key).verdict != VerdictName.NOT_SETTLED for key in settings)
    ]
    _close(recorder, evidence, standing)
    return evidence


def _compute(recorder: Recorder, engine: Engine, steps: tuple[Step, ...]) -> None:
    """Every unit of what has begun that is neither committed nor failed yet."""
    evaluation, done = recorder.evaluation, recorder.done
    plan, random = evaluation.begun(steps), evaluation.random(steps)
    units = [*plan.units, *(unit for own in random.values() for unit in own)]
    recorder.look_up(units)
    left = tuple(unit for unit in units if unit.id not in done.metadata)
    if any(unit.id not in done.failures for unit in left):
        plan = replace(plan, units=left, notes=())
        folder, prepared = recorder.folder, evaluation.prepared
        later = _later(recorder, steps)
        run_plan(engine, folder, prepared, plan, done, recorder.store, recorder.listener, later)


def _later(recorder: Recorder, steps: tuple[Step, ...]) -> int:
    """Image gradients of the rows of the table that have not begun, nor ran before an interruption."""
    evaluation, ran = recorder.evaluation, Evidence(steps)
    rows = {} if evaluation.plan.ceilings.table == 0 else table_sizes(evaluation.plan, ran)
    units = [unit for case, size in rows.items() for unit in evaluation.units(case, size)]
    begun = {unit.id for unit in evaluation.begun(steps).units}
    return sum(unit.images for unit in units if unit.id not in begun and unit.id not in recorder.held)


def _close(recorder: Recorder, evidence: Evidence, comparisons: list[Comparison]) -> None:
    """Tells verdicts that nothing changes any more."""
    plan, prepared = recorder.evaluation.plan, recorder.evaluation.prepared
    for comparison in comparisons:
        size = size_of(plan, evidence, comparison)
        ran = [case for case in plan.attacks[comparison] if evidence.sizes.get(case, 0) >= size]
        shares = {case: evidence.shares[case] for case in ran if case in evidence.shares}
        worst = min(shares, key=lambda case: shares[case]).attack if shares else ""
        examples = [prepared.examples_planned(case, evidence.sizes[case]) for case in ran]
        if comparison.one_victim:  # others are the victims of random batches
            examples += [evidence.random[case].batches for case in ran if case in evidence.random]
        for setting in plan.judged[comparison]:
            verdict, most = evidence.standing(setting).verdict, max(examples, default=0)
            recorder.listener.settled(Stop(setting.of_attack(worst), verdict, most, prepared.setup.examples))
