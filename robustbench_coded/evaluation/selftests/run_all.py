"""All self-tests of one subject, on one short attack; where a gradient fails one, again with the
defence's operators relaxed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from attacks.gradients import raise_machine_fault
from attacks.relaxation import Relaxation
from robustbench_coded.evaluation.selftests import gradients
from robustbench_coded.evaluation.selftests.base_agrees import Network, base_agrees
from robustbench_coded.evaluation.selftests.other_generators import (
    GENERATORS,
    ONE_INPUT,
    Batches,
    Draws,
    one_input,
    other_generators,
)
from robustbench_coded.evaluation.selftests.other_images import BESIDE, beside_clean
from robustbench_coded.evaluation.selftests.scene import Scene, SelfTest, Walk, judged, walk
from robustbench_coded.schema.words import BASE_SELF_TEST, GRADIENT_SELF_TESTS, RELAXED_SELF_TEST

_RELAXED_TESTS = (
    gradients.finite_differences,
    gradients.gradients_exist,
    gradients.rising_loss,
    gradients.gradients_agree,
    gradients.planted,
)


def relaxed_gradients(scene: Scene, path: Walk) -> SelfTest:
    """Passes where each of the tests does that ask where gradients lead, or says nothing of this defence.

    A walk of its own replaces ``path``. Figures are the shares and cosines of these tests.
    """
    relaxation = Relaxation()
    relaxed = replace(scene, relaxation=relaxation)

    def results() -> list[SelfTest]:
        path = walk(relaxed)
        return [test(relaxed, path) for test in _RELAXED_TESTS]

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
    return test.name != gradients.DIFFERENCES or test.figures.get("smooth", 0.0) >= gradients.SMOOTH


EXAMPLES = 32  # inputs of the scene: enough for shares of a quarter to be told from those of honest networks
FEWEST = 16  # of large images, each of which costs some ninety forwards: one of them is below every share

_TESTS: dict[str, Callable[[Scene, Walk], SelfTest]] = {
    gradients.MODES: gradients.gradient_modes,
    BESIDE: beside_clean,
    gradients.EXIST: gradients.gradients_exist,
    gradients.DIFFERENCES: gradients.finite_differences,
    gradients.RISING: gradients.rising_loss,
    gradients.AGREE: gradients.gradients_agree,
    gradients.SATURATION: gradients.saturation,
    gradients.PLANTED: gradients.planted,
}


@dataclass(frozen=True)
class Networks:
    """What a user defence has underneath, by its own account and by ours.

    Attributes:
        base: the base model that it names, if any.
        checkpoint: the model that it was put around.
    """

    base: Network | None
    checkpoint: Network


def run_all(
    scene: Scene,
    networks: Networks | None = None,
    draws: Draws | None = None,
    batches: Batches | None = None,
) -> tuple[SelfTest, ...]:
    """The self-tests in a fixed order; what the defence raises makes a test fail, never the caller.

    Args:
        networks: for a user defence, whose base model is compared; None where the base is known to be right.
        draws: how a user defence draws; None where it is known to make no difference between generators.
        batches: how a user defence answers batches of other sizes; None where no size is known to matter.
    """
    try:
        path = walk(scene)
    except Exception as error:  # a user defence can fail in any way
        raise_machine_fault(error)
        return (judged("attack", False, f"A short attack on it fails: {_said(error)}."),)
    tests = dict(_TESTS)
    if networks is not None:
        base, checkpoint = networks.base, networks.checkpoint
        tests[BASE_SELF_TEST] = lambda scene, path: base_agrees(scene, path, base, checkpoint)
    if draws is not None:
        tests[GENERATORS] = lambda scene, path: other_generators(scene, path.points[-1], draws)
    if batches is not None:
        tests[ONE_INPUT] = lambda scene, path: one_input(scene, path.points[-1], batches)
    results = [_result(name, test, scene, path) for name, test in tests.items()]
    if any(test.outcome == "failed" and test.name in GRADIENT_SELF_TESTS for test in results):
        results.append(_result(RELAXED_SELF_TEST, relaxed_gradients, scene, path))
    return tuple(results)


def _result(name: str, test: Callable[[Scene, Walk], SelfTest], scene: Scene, path: Walk) -> SelfTest:
    try:
        return test(scene, path)
    except Exception as error:
        raise_machine_fault(error)
        return judged(name, False, f"The defence fails when it is asked: {_said(error)}.")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
