"""Where a defence's own gradients fail a self-test: are they usable with its operators relaxed?

The gradients that ``relaxed-`` attacks follow are no derivatives where answers jump. What counts is where
they lead: they exist, steps along them bring what random steps don't, those of two draws agree, and planted
perturbations are found. Where answers are smooth, they must also agree with finite differences.
"""

from dataclasses import replace

from attacks.relaxation import Relaxation
from robustbench_coded.schema.words import RELAXED_SELF_TEST
from robustbench_coded.selftests.finite_differences import NAME as DIFFERENCES
from robustbench_coded.selftests.finite_differences import SMOOTH, finite_differences
from robustbench_coded.selftests.gradients_agree import gradients_agree
from robustbench_coded.selftests.gradients_exist import gradients_exist
from robustbench_coded.selftests.planted import planted
from robustbench_coded.selftests.result import SelfTest, judged
from robustbench_coded.selftests.rising_loss import rising_loss
from robustbench_coded.selftests.scene import Scene
from robustbench_coded.selftests.walk import Walk, walk

_TESTS = (finite_differences, gradients_exist, rising_loss, gradients_agree, planted)


def relaxed_gradients(scene: Scene, path: Walk) -> SelfTest:
    """Passes where each of the tests does that ask where gradients lead, or says nothing of this defence.

    A walk of its own replaces ``path``. Figures are the shares and cosines of these tests.
    """
    relaxation = Relaxation()
    relaxed = replace(scene, relaxation=relaxation)

    def results() -> list[SelfTest]:
        path = walk(relaxed)
        return [test(relaxed, path) for test in _TESTS]

    try:
        found = relaxation.attempt(results)
    finally:
        scene.forwards += relaxed.forwards
        scene.backwards += relaxed.backwards
    failed = [test for test in found if test.outcome == "failed" and _counts(test)]
    said = " ".join(f"With smooth operators: {test.finding}" for test in failed or found[-1:])
    figures = {name: value for test in found for name, value in test.figures.items()}
    return judged(RELAXED_SELF_TEST, not failed, said, **figures)


def _counts(test: SelfTest) -> bool:
    """Differences say nothing where answers jump."""
    return test.name != DIFFERENCES or test.figures.get("smooth", 0.0) >= SMOOTH
