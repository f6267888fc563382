"""Two classes by a score that grows with every signed pixel, whatever operators it is made of.

Signed pixels are u = pattern * (x - 0.5), so that class 1 has large ones and class 0 small ones. If the score
never falls as any u grows, the worst point of an l-infinity ball is its corner against the label, which lies
in the box, too, once it is cut to it. So robust accuracy is what the defence leaves at that one point,
exactly. A perturbation is the same before and after a draw, hence this holds under all threat models.
"""

from collections.abc import Callable

from torch import Tensor, nn

from robustbench_coded.zoo.deterministic import Deterministic
from robustbench_coded.zoo.known import Known, everywhere, exactly
from robustbench_coded.zoo.linear import GAIN, Planted, against, pattern, planted_margins, spread, two_logits

Score = Callable[[Tensor], Tensor]  # signed pixels [k, 64] in [-0.5, 0.5] -> scores [k]

TEXTURE = 0.05  # finer than the margins: pixels of an image mostly agree on its class


class Monotone(nn.Module):
    """Logits of a score of signed pixels; class 1 where the score is positive."""

    direction: Tensor

    def __init__(self, row: int, score: Score):
        super().__init__()
        self.register_buffer("direction", pattern(row))
        self.score = score

    def forward(self, x: Tensor) -> Tensor:
        return two_logits(GAIN * self.score(signed(x, self.direction)))


def signed(x: Tensor, direction: Tensor) -> Tensor:
    """Images [k, 1, 8, 8] as signed pixels [k, 64]."""
    return ((x - 0.5) * direction.to(x)).flatten(1)


def images(row: int, n: int, eps: float, *, wide: bool) -> Planted:
    """Margins of 0.25 to 0.6 eps, or 1.4 to 2.2 eps for four images in five."""
    narrow = spread(0.25 * eps, 0.6 * eps, n)
    if not wide:
        return planted_margins(narrow, pattern(row), texture=TEXTURE)
    distances = spread(1.4 * eps, 2.2 * eps, n)
    distances[::5] = narrow[::5]
    return planted_margins(distances, pattern(row), texture=TEXTURE)


def corner(x: Tensor, y: Tensor, row: int, eps: float) -> Tensor:
    """The point of the ball, within the box, where every signed pixel is furthest from the label's side."""
    return (x + eps * against(y, pattern(row))).clamp(0, 1)


def known_monotone(name: str, row: int, score: Score, n: int, eps: float, *, wide: bool = False) -> Known:
    """A deterministic defence by a score, with its truth."""
    x, y = images(row, n, eps, wide=wide)
    defence = Deterministic(name, Monotone(row, score))

    def accuracy(x: Tensor) -> float:
        return (defence.logits(x, None).argmax(1) == y).double().mean().item()

    robust = exactly(accuracy(corner(x, y, row, eps)))
    return Known(defence, x, y, 128, exactly(accuracy(x)), everywhere(robust))
