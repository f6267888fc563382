"""Does scoring get the answers that attacks get? A plug-in's code can see who calls it."""

import torch

from attacks.losses import margin
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.evaluation.execution.score import predictions
from robustbench_coded.selftests.gradient_modes import ROUNDING
from robustbench_coded.selftests.result import SelfTest, judged
from robustbench_coded.selftests.scene import Scene
from robustbench_coded.selftests.stack_reading import stack_readings

NAME = "answers when scored"


def asked_alike(scene: Scene, defence: Defence, seed: int, batches: list[int]) -> SelfTest:
    """Asks about one random corner of the ball as attacks do, and as scoring does, under one draw.

    Args:
        defence: the object that the scene's target asks.
        seed, batches: by which the scene names its draws.
    """
    x = scene.budget.random_sign(scene.x, scene.generators)
    with stack_readings() as places:
        asked = margin(scene.differentiable(x, scene.draws(0))[1].detach().float(), scene.y)
    if places:
        where = "; ".join(sorted(places))
        return judged(NAME, False, f"It reads the call stack ({where}): it knows who asks.")
    _, margins = predictions(
        defence,
        x,
        scene.y,
        seed=seed,
        batches=batches,
        purpose="attack",
        draws=[0],
        group_images=scene.examples,
    )
    largest = max(float(asked.abs().max()), 1e-30)
    scored = torch.from_numpy(margins[0]).to(asked).nan_to_num(neginf=0.0)  # no answer, as in the scene
    moved = float((scored - asked).abs().max()) / largest
    finding = f"Margins of perturbed inputs move by at most {moved:.1e} of the largest one when scored."
    return judged(NAME, moved <= ROUNDING, finding, moved=moved)
