"""Are the answers that attacks see, with gradient recording, those that are scored, without it?"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from robustbench_coded.selftests.result import SelfTest, judged
from robustbench_coded.selftests.scene import Scene
from robustbench_coded.selftests.walk import Walk

NAME = "answers with and without gradients"
ROUNDING = 1e-3  # of the largest logit: other kernels may serve other modes


def gradient_modes(scene: Scene, path: Walk) -> SelfTest:
    """Asks about a clean batch and the walk's last iterate in four modes under one draw.

    A mode that the defence refuses with an exception counts as another answer, but for inference mode.
    """
    worst, mode = 0.0, ""
    for x in (scene.x, path.points[-1]):
        plain = scene.answers(x, path.draws)
        scale = float(plain.abs().max()) or 1.0
        for name, ask in _MODES.items():
            moved = float((ask(scene, x, path.draws) - plain).abs().max()) / scale
            if not moved <= worst:
                worst, mode = moved, name
    finding = f"Logits move by at most {worst:.1e} of the largest one" + (f", {mode}." if mode else ".")
    return judged(NAME, worst <= ROUNDING, finding, moved=worst)


def _recorded(scene: Scene, x: Tensor, draws: Sequence[Any]) -> Tensor:
    return scene.differentiable(x, draws)[1].detach().clone()


def _recording_elsewhere(scene: Scene, x: Tensor, draws: Sequence[Any]) -> Tensor:
    with torch.enable_grad():
        return scene.oracle.logits(x.detach().clone(), draws).detach().clone()


def _after_a_gradient(scene: Scene, x: Tensor, draws: Sequence[Any]) -> Tensor:
    leaf, logits = scene.differentiable(x, draws)
    scene.gradient(logits, leaf)
    return scene.answers(x, draws)


_MODES: dict[str, Callable[[Scene, Tensor, Sequence[Any]], Tensor]] = {
    "when the input's gradient is recorded": _recorded,
    "when gradients are recorded, but not the input's": _recording_elsewhere,
    "after a gradient was asked for": _after_a_gradient,
}
