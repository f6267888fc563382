"""Does an imperceptible move of a clean input change its answer?"""

import torch

from robustbench_coded.selftests.result import SelfTest, judged
from robustbench_coded.selftests.scene import Scene
from robustbench_coded.selftests.walk import Walk

NAME = "answers beside clean inputs"
MOVE = 1 / 200  # of eps: less than any quantisation of images sees
JUMP = 0.25  # change of a logit, as a share of their spread, that counts as another answer
TOLERATED = 0.1  # share of inputs


def beside_clean(scene: Scene, path: Walk) -> SelfTest:
    """Fails where a random move of MOVE times eps changes the logits of more than TOLERATED of the inputs.

    A defence that tells images of a data set, multiples of 1/255, from all others meets attacks with other
    answers than those that it gives in use.
    """
    moved = (scene.x + MOVE * scene.budget.eps * scene.random_signs()).clamp(0, 1)
    before, after = (scene.answers(x, path.draws) for x in (scene.x, moved))
    spread = (before.amax(-1) - before.amin(-1)).clamp(min=torch.finfo(before.dtype).tiny)
    # NaN compares false with everything; it must count as a jump.
    still = (after - before).abs().amax(-1) <= JUMP * spread
    share = float((~still).double().mean())
    finding = f"A random move of eps/{1 / MOVE:g} changes the logits of {share:.1%} of the clean inputs."
    return judged(NAME, share <= TOLERATED, finding, jumps=share)
