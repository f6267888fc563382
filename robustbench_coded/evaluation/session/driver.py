"""Runs the steps of an evaluation: the protocol says which, the engine computes their units, outcomes are
committed, the judge judges them, and the protocol says the next.
"""

from robustbench_coded.evaluation.planning.comparisons import Comparison
from robustbench_coded.evaluation.protocol.plan import EvaluationPlan, Need, Results
from robustbench_coded.evaluation.protocol.rungs import next_step, wider
from robustbench_coded.evaluation.session.listener import Stop
from robustbench_coded.evaluation.session.recording import Recorder
from robustbench_coded.evaluation.session.run_plan import Work, run_plan
from robustbench_coded.evaluation.session.selftesting import run_selftests, untested
from robustbench_coded.schema.words import Rung, VerdictName
from robustbench_coded.user_code import TimeIsUp


def run_steps(recorder: Recorder, work: Work) -> Results:
    """Climbs the protocol on the first images, and on twice as many for verdicts that need them, until
    nothing is left to do.

    A folder that was interrupted comes to the same steps again: what it has committed is not computed again,
    and a finished one stays finished until something is.

    Raises:
        TimeIsUp: at the deadline; what has not come to its end is dropped.
    """
    whole, climb = recorder.evaluation.plan, _Climb(recorder, work)
    more: list[Comparison] = []
    for size in (size for size in whole.sizes if size >= whole.start):
        plan = whole.at(size, more)
        climb.on(plan)
        more = wider(plan, climb.results)
    climb.finish()
    return climb.results


class _Climb:
    """The steps so far, their results, and which verdicts were reported.

    Attributes:
        results: of all steps.
    """

    def __init__(self, recorder: Recorder, work: Work):
        self._recorder, self._work = recorder, work
        self._reported: set[Comparison] = set()
        self.results = Results()

    def on(self, plan: EvaluationPlan) -> None:
        """Takes every step on one sample size."""
        while (step := next_step(plan, self.results)) is not None:
            self._take(step)
            for comparison in self.results.settled(plan):
                self._report(comparison)

    def finish(self) -> None:
        """Reports the verdicts that are no longer open, although more attacks could have changed them."""
        plan = self._recorder.evaluation.plan
        for comparison in plan.judged:
            verdicts = [verdict and verdict.name for verdict in self.results.of(plan, comparison)]
            if None not in verdicts and VerdictName.NOT_SETTLED not in verdicts:
                self._report(comparison)

    def _take(self, step: Need) -> None:
        recorder, steps = self._recorder, (*self.results.steps, step)
        evaluation = recorder.evaluation
        self._compute(step, steps)
        if step.rung == Rung.SELF_TESTS and untested(recorder.folder, evaluation.prepared):
            recorder.write(steps)
            run_selftests(recorder.folder, evaluation.prepared, recorder.listener)
        self.results = evaluation.results(steps, recorder.folder.path, recorder.done.metadata)

    def _compute(self, step: Need, steps: tuple[Need, ...]) -> None:
        """Every unit of what has begun that is neither committed nor failed yet."""
        recorder = self._recorder
        plan, done = recorder.evaluation.begun(steps), recorder.done
        recorder.look_up(plan.units)
        if all(unit.id in done.metadata or unit.id in done.failures for unit in plan.units):
            return
        recorder.write(steps)
        judged = recorder.evaluation.plan.judged
        recorder.listener.begun(step, {c.inputs for c in judged if c not in self._reported})
        try:
            run_plan(self._work, plan)
        except (KeyboardInterrupt, TimeIsUp):
            if step.wider:  # what is complete is what fewer examples show
                recorder.write(steps[:-1])
            raise

    def _report(self, comparison: Comparison) -> None:
        """Reports the verdicts of a comparison, which nothing changes any more."""
        if comparison in self._reported:
            return
        self._reported.add(comparison)
        recorder, results = self._recorder, self.results
        plan, prepared = recorder.evaluation.plan, recorder.evaluation.prepared
        size = results.size_of(plan, comparison)
        ran = [case for case, reached in results.ran(comparison).items() if reached >= size]
        shares = {case: share for case in ran if (share := results.share(case)) is not None}
        worst = min(shares, key=lambda case: shares[case]).attack if shares else ""
        examples = [prepared.examples_planned(case, results.sizes[case]) for case in ran]
        if comparison.one_victim:  # others are the victims of random batches
            examples += [results.batches[case][0] for case in ran if case in results.batches]
        most, planned = max(examples, default=0), prepared.setup.examples
        for setting, verdict in zip(plan.judged[comparison], results.of(plan, comparison), strict=True):
            if verdict is not None:
                recorder.listener.settled(Stop(setting.of_attack(worst), verdict.name, most, planned))
