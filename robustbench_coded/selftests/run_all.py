"""All self-tests of one subject, on one short attack."""

from collections.abc import Callable
from dataclasses import dataclass

from robustbench_coded.schema.words import GRADIENT_SELF_TESTS, RELAXED_SELF_TEST
from robustbench_coded.selftests.base_agrees import NAME as BASE
from robustbench_coded.selftests.base_agrees import Network, base_agrees
from robustbench_coded.selftests.beside_clean import NAME as BESIDE
from robustbench_coded.selftests.beside_clean import beside_clean
from robustbench_coded.selftests.finite_differences import NAME as DIFFERENCES
from robustbench_coded.selftests.finite_differences import finite_differences
from robustbench_coded.selftests.gradient_modes import NAME as MODES
from robustbench_coded.selftests.gradient_modes import gradient_modes
from robustbench_coded.selftests.gradients_agree import NAME as AGREE
from robustbench_coded.selftests.gradients_agree import gradients_agree
from robustbench_coded.selftests.gradients_exist import NAME as EXIST
from robustbench_coded.selftests.gradients_exist import gradients_exist
from robustbench_coded.selftests.one_input import NAME as ONE_INPUT
from robustbench_coded.selftests.one_input import Batches, one_input
from robustbench_coded.selftests.other_generators import NAME as GENERATORS
from robustbench_coded.selftests.other_generators import Draws, other_generators
from robustbench_coded.selftests.planted import NAME as PLANTED
from robustbench_coded.selftests.planted import planted
from robustbench_coded.selftests.relaxed_gradients import relaxed_gradients
from robustbench_coded.selftests.result import SelfTest, judged
from robustbench_coded.selftests.rising_loss import NAME as RISING
from robustbench_coded.selftests.rising_loss import rising_loss
from robustbench_coded.selftests.saturation import NAME as SATURATION
from robustbench_coded.selftests.saturation import saturation
from robustbench_coded.selftests.scene import Scene
from robustbench_coded.selftests.walk import Walk, walk

EXAMPLES = 32  # inputs of the scene: enough for shares of a quarter to be told from those of honest networks

_TESTS: dict[str, Callable[[Scene, Walk], SelfTest]] = {
    MODES: gradient_modes,
    BESIDE: beside_clean,
    EXIST: gradients_exist,
    DIFFERENCES: finite_differences,
    RISING: rising_loss,
    AGREE: gradients_agree,
    SATURATION: saturation,
    PLANTED: planted,
}


@dataclass(frozen=True)
class Networks:
    """What a plug-in has underneath, by its own account and by ours.

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
        networks: for a plug-in, whose base model is compared; None where the base is known to be right.
        draws: how a plug-in draws; None where it is known to make no difference between generators.
        batches: how a plug-in answers batches of other sizes; None where no size is known to matter.
    """
    try:
        path = walk(scene)
    except Exception as error:  # a plug-in can fail in any way
        return (judged("attack", False, f"A short attack on it fails: {_said(error)}."),)
    tests = dict(_TESTS)
    if networks is not None:
        base, checkpoint = networks.base, networks.checkpoint
        tests[BASE] = lambda scene, path: base_agrees(scene, path, base, checkpoint)
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
        return judged(name, False, f"The defence fails when it is asked: {_said(error)}.")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
