"""Is there a gradient to follow where an attack goes? (Indicator 1 of arXiv 2106.09947.)"""

from torch import Tensor

from robustbench_coded.selftests.result import SelfTest, judged
from robustbench_coded.selftests.scene import Scene
from robustbench_coded.selftests.walk import Walk

NAME = "gradients along the path"
WITHOUT = 0.1  # share of inputs without a usable gradient above which an attack with gradients says little


def gradients_exist(scene: Scene, path: Walk) -> SelfTest:
    """Fails where the margin's gradient is zero, NaN or infinite at more than WITHOUT of inputs and iterates.

    The cross-entropy's may vanish because logits are large; then the same holds, for most attacks raise it.
    """
    zero = max(_share(path.gradients, _zero), _share(path.cross_entropy, _zero))
    broken = max(_share(path.gradients, _broken), _share(path.cross_entropy, _broken))
    finding = (
        f"Along a short attack the gradient is zero at {zero:.1%} of the inputs and NaN or infinite at "
        f"{broken:.1%}."
    )
    return judged(NAME, zero + broken <= WITHOUT, finding, zero_share=zero, not_finite_share=broken)


def _share(gradients: tuple[Tensor, ...], what: object) -> float:
    return sum(what(g).double().mean().item() for g in gradients) / len(gradients)  # type: ignore[operator]


def _zero(gradient: Tensor) -> Tensor:
    return (gradient == 0).flatten(2).all(2)


def _broken(gradient: Tensor) -> Tensor:
    return (~gradient.isfinite()).flatten(2).any(2)
