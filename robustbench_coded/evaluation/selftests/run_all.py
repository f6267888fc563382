"""All self-tests of one subject, on one short attack; where a gradient fails one, again with the
defence's operators relaxed.
"""

from collections.abc import Callable
from dataclasses import replace

from attacks.gradients import raise_machine_fault
from attacks.relaxation import Relaxation
from robustbench_coded.evaluation.selftests import gradients
from robustbench_coded.evaluation.selftests.scene import Scene, SelfTest, judged, walk
from robustbench_coded.schema.words import RELAXED_SELF_TEST

_TESTS = (
    gradients.gradients_exist,
    gradients.finite_differences,
    gradients.rising_loss,
)


def run_all(scene: Scene) -> tuple[SelfTest, ...]:
    """The self-tests in a fixed order; what the defence raises makes a test fail, never the caller."""
    tests = tried("attack", "A short attack on it fails", lambda: _all(scene))
    if any(test.outcome == "failed" and test.name != "attack" for test in tests):
        tests += tried(RELAXED_SELF_TEST, "The defence fails when it is asked", lambda: (_relaxed(scene),))
    return tests


def tried(name: str, failing: str, test: Callable[[], tuple[SelfTest, ...]]) -> tuple[SelfTest, ...]:
    """Results; where the defence raises an exception, a failed self-test of this name, which says so.

    Args:
        failing: how its finding begins.
    """
    try:
        return test()
    except Exception as error:  # a user defence can fail in any way
        raise_machine_fault(error)
        message = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return (judged(name, False, f"{failing}: {message}."),)


def _all(scene: Scene) -> tuple[SelfTest, ...]:
    path = walk(scene)
    return tuple(test(scene, path) for test in _TESTS)


def _relaxed(scene: Scene) -> SelfTest:
    """Passes where each of the tests does, or says nothing of this defence.

    They have a walk of their own. Figures are those of these tests.
    """
    relaxation = Relaxation()
    relaxed = replace(scene, relaxation=relaxation)
    try:
        tests = relaxation.attempt(lambda: _all(relaxed))
    finally:
        scene.forwards += relaxed.forwards
        scene.backwards += relaxed.backwards
    failed = [test for test in tests if test.outcome == "failed" and _counts(test)]
    finding = " ".join(f"With smooth operators: {test.finding}" for test in failed or tests[2:3])
    figures = {name: value for test in tests for name, value in test.figures.items()}
    return judged(RELAXED_SELF_TEST, not failed, finding, **figures)


def _counts(test: SelfTest) -> bool:
    """Differences say nothing where answers jump."""
    return test.name != gradients.DIFFERENCES or test.figures.get("smooth", 0.0) >= gradients.SMOOTH
