"""Half of every batch stands by design, and which half it is the attacker decides, for the batch as a whole.

Even and odd slots are answered by a robust and a fragile model: which by which depends on the sign of the
batch's mean score along a pattern that neither model looks at.

Truth: the robust model's margins exceed eps, the fragile one's are below it, so the inputs that the fragile
model answers can all be fooled and the others cannot, whatever the sign is and whatever is known: exactly 50%
of every batch of an even size. Two attacks that push the sign different ways break every example between
them, but no attacker can play both: counting the better of the two for each example reads 0. The clean mean
is 0 but for the rounding of pixels, so that any random start turns the sign. Under ``victim`` an input may
turn it, too, or fail to: between 0 and the robust half.

Both models tell a second bit of the label by a third pattern, at a margin of 2 eps, which cannot be turned.
That makes four classes, of which a constant answer keeps 25%: the half that stands is more than that.
"""

import torch
from torch import Tensor, nn

from robustbench_coded.zoo.known import Known, Truth, exactly
from robustbench_coded.zoo.linear import (
    LinearModel,
    Planted,
    TwoBits,
    along,
    pattern,
    planted_margins,
    spread,
    with_coarse_bit,
    worst_margins,
)

ROBUST, FRAGILE, SIGN, COARSE = 5, 40, 51, 30


class HalfBatch:
    """Even slots by ``robust``, odd ones by ``fragile`` where the batch's mean ``sign`` score is negative."""

    name = "half-batch"
    randomised = False
    batch_dependent = True
    base: nn.Module | None = None

    def __init__(self, robust: nn.Module, fragile: nn.Module, sign: LinearModel):
        self.robust = robust
        self.fragile = fragile
        self.sign = sign

    def sample(self, generator: torch.Generator, k: int) -> None:
        return None

    def logits(self, x: Tensor, draw: None) -> Tensor:
        even = (torch.arange(len(x), device=x.device) % 2 == 0).unsqueeze(-1)
        guarded = even if self.sign.score(x).mean() < 0 else ~even
        return torch.where(guarded, self.robust(x), self.fragile(x))


def known(n: int = 640, eps: float = 0.05, k: int = 128) -> Known:
    robust, fragile, sign, coarse = (along(pattern(row)) for row in (ROBUST, FRAGILE, SIGN, COARSE))
    x, fine = planted_margins(
        spread(1.4 * eps, 2.2 * eps, n),
        pattern(ROBUST),
        flat_along=[pattern(row) for row in (FRAGILE, SIGN, COARSE)],
    )
    towards = (2 * fine - 1).view(-1, 1, 1, 1)
    x = x + towards * spread(0.25 * eps, 0.6 * eps, n, seed=2).view(-1, 1, 1, 1) * pattern(FRAGILE)
    x, y = with_coarse_bit(Planted(x, fine), pattern(COARSE), 2 * eps)
    coarse_stands, robust_stands, fragile_stands = (
        worst_margins(model, x, bit, eps) > 0
        for model, bit in ((coarse, y // 2), (robust, fine), (fragile, fine))
    )
    even = torch.arange(n) % 2 == 0
    half = min(
        (coarse_stands & torch.where(guarded, robust_stands, fragile_stands)).double().mean().item()
        for guarded in (even, ~even)
    )
    truth = {"batch": exactly(half), "victim": Truth(0.0, half)}
    return Known(
        HalfBatch(TwoBits(coarse, robust), TwoBits(coarse, fragile), sign),
        x,
        y,
        k,
        exactly(1.0),
        lambda threat: truth[threat.split("/")[0]],
    )
