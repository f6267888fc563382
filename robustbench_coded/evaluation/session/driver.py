"""Runs the steps of an evaluation: the protocol says which, the engine computes their units, outcomes are
committed, and the protocol decides the next step.
"""

from dataclasses import replace

from robustbench_coded.evaluation.planning.comparisons import Comparison
from robustbench_coded.evaluation.protocol.rungs import SELF_TESTS, next_step
from robustbench_coded.evaluation.protocol.state import Evidence, Step, settled, size_of, standings_of
from robustbench_coded.evaluation.session.listener import Stop
from robustbench_coded.evaluation.session.recording import Recorder
from robustbench_coded.evaluation.session.run_plan import Work, run_plan
from robustbench_coded.evaluation.session.selftesting import run_selftests
from robustbench_coded.schema.words import VerdictName
from robustbench_coded.user_code import TimeIsUp


def run_steps(recorder: Recorder, work: Work) -> Evidence:
    """Runs steps until the protocol has no further one; returns the evidence.

    A folder that was interrupted comes to the same steps again: what it has committed is not computed again.

    Raises:
        TimeIsUp: at the deadline; what has not come to its end is dropped.
    """
    evaluation, plan = recorder.evaluation, recorder.evaluation.plan
    steps, reported = tuple[Step, ...](), set[Comparison]()
    recorder.write(steps)
    while True:
        evidence = evaluation.evidence(steps, recorder.folder.path, recorder.done.metadata)
        for comparison in settled(plan, evidence):
            if comparison not in reported:
                _report(recorder, evidence, comparison)
                reported.add(comparison)
        step = next_step(plan, evidence)
        recorder.write_decision(evidence, step)
        if step is None:
            break
        before, steps = steps, (*steps, step)
        recorder.write(steps)
        try:
            _compute(recorder, work, steps)
        except (KeyboardInterrupt, TimeIsUp):
            if step.reached:  # what is complete is what fewer examples show
                recorder.write(before)
            raise
        if step.rung == SELF_TESTS:
            run_selftests(recorder.folder, evaluation.prepared, recorder.listener)
    for comparison in plan.judged:
        verdicts = [standing.verdict for standing in standings_of(plan, evidence, comparison)]
        if comparison not in reported and VerdictName.NOT_SETTLED not in verdicts:
            _report(recorder, evidence, comparison)
    return evidence


def _compute(recorder: Recorder, work: Work, steps: tuple[Step, ...]) -> None:
    """Every unit of what has begun that is neither committed nor failed yet."""
    plan, done = recorder.evaluation.begun(steps), recorder.done
    recorder.look_up(plan.units)
    remaining = tuple(unit for unit in plan.units if unit.id not in done.metadata)
    if any(unit.id not in done.failures for unit in remaining):
        recorder.listener.begun(steps[-1])
        run_plan(work, replace(plan, units=remaining, notes=()))


def _report(recorder: Recorder, evidence: Evidence, comparison: Comparison) -> None:
    """Reports the verdicts of a comparison, which nothing changes any more."""
    plan, prepared = recorder.evaluation.plan, recorder.evaluation.prepared
    size = size_of(plan, evidence, comparison)
    ran = [case for case in plan.attacks[comparison] if evidence.sizes.get(case, 0) >= size]
    shares = {case: evidence.outcomes[case].share for case in ran if case in evidence.outcomes}
    worst = min(shares, key=lambda case: shares[case]).attack if shares else ""
    examples = [prepared.examples_planned(case, evidence.sizes[case]) for case in ran]
    if comparison.one_victim:  # others are the victims of random batches
        examples += [evidence.random[case].batches for case in ran if case in evidence.random]
    most, planned = max(examples, default=0), prepared.setup.examples
    standings = standings_of(plan, evidence, comparison)
    for setting, standing in zip(plan.judged[comparison], standings, strict=True):
        recorder.listener.settled(Stop(setting.of_attack(worst), standing.verdict, most, planned))
