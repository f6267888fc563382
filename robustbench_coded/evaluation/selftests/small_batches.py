"""A short attack in the smallest batch that a batch-dependent defence answers.

Accuracy at one batch size says nothing of another: a defence may be robust in batches of 128 and fragile
alone. The inputs are therefore attacked once, as shortly as for all self-tests, in the smallest batch that
the defence answers. Inputs that were perturbed in a full batch do not show it: at eps 0.2 they leave 68% of a
defence that has nothing left in small batches.
"""

from collections.abc import Callable
from itertools import takewhile

from attacks.gradients import raise_machine_fault
from robustbench_coded.evaluation.selftests.scene import Scene, walk

SIZES = tuple(2**i for i in range(20))


def small_batches(scene: Callable[[int], Scene], k: int) -> dict[str, int]:
    """Counts of right answers, as JSON data: k, inputs, clean, left (right before and after the attack).

    Args:
        scene: makes batches of a size out of the first ``k`` inputs.
        k: of the batches that are evaluated.

    Returns:
        no inputs where the defence answers no smaller batches.
    """
    for size in takewhile(lambda size: size < k, SIZES):
        try:
            small = scene(size)
            draws = small.draws(1)  # the walk has draw 0
            right = small.answers(small.x, draws).argmax(-1) == small.y
            robust = small.answers(walk(small).points[-1], draws).argmax(-1) == small.y
        except Exception as error:  # a user defence can refuse a size in any way
            raise_machine_fault(error)
            continue
        counts = {"clean": int(right.sum()), "left": int((right & robust).sum())}
        return {"k": size, "inputs": small.examples, **counts}
    return {"k": k, "inputs": 0, "clean": 0, "left": 0}
