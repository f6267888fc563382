"""A linear model under randomised coded inference, under each threat model.

Truth: on scores t [K] the defence is a matrix, M = P^T D E P with the permutation P (arXiv 2510.00253,
section 3), and every answer a row of it: sum_j M_ij t_j. An l-infinity perturbation of eps moves each t_j by
at most eps and, away from the box, anywhere in between (``linear.along`` has ||w||_1 = 1). Let a be the least
and r the largest, over the slots, of M_ss and of sum_{j != s} |M_sj|, and T the largest |t|. With margins m:

- an input is right in every slot, in every batch, whatever is known of P, when
  a (m - eps) > r (T + eps); where the others are clean (``victim``), when a (m - eps) > r T;
- it is wrong in every slot when each input is moved by eps against its own margin, as transfer from the
  linear model does, and -a (m - eps) > r max|m - eps|; where the others are clean, when -a (m - eps) > r T.

The margins are chosen so that each input is one or the other: then the truth is exact, for every threat
model. (M_ss varies over the slots; inputs use the bound that is worse for the claim.)
"""

import torch
from torch import Tensor

from robustbench_coded.coding.codec import Codec
from robustbench_coded.defences.rci import RCI
from robustbench_coded.zoo.known import Known, Truth
from robustbench_coded.zoo.linear import LinearModel, along, margins, pattern, planted_margins, worst_margins

NARROW = 0.3  # share of inputs that a perturbation of eps takes across the boundary


def known(n: int = 640, eps: float = 0.1, k: int = 128, n_coded: int | str = "1.5K") -> Known:
    """Nothing is gained over the linear model: 70% of inputs stand under both, 30% fall under both."""
    narrow = torch.arange(n) % 10 < round(10 * NARROW)
    return _known(torch.where(narrow, 0.3 * eps, 2 * eps), eps, k, n_coded, "rci-linear")


def known_wide(n: int = 640, eps: float = 0.1, k: int = 128, n_coded: int | str = "1.5K") -> Known:
    """All inputs stand; the defence keeps to itself what it is made of."""
    known = _known(torch.full((n,), 2 * eps), eps, k, n_coded, "rci-linear-wide")
    known.defence.base = None
    return known


def _known(distances: Tensor, eps: float, k: int, n_coded: int | str, name: str) -> Known:
    model = along(pattern(45))
    x, y = planted_margins(distances, pattern(45))
    defence = RCI(model, k, n_coded, name=name)
    codec = defence.path.codec_for(k)
    clean = bounds(codec, model, x, y, 0.0, co_batched_eps=0.0)
    by_inputs = {
        "batch": bounds(codec, model, x, y, eps, co_batched_eps=eps),
        "victim": bounds(codec, model, x, y, eps, co_batched_eps=0.0),
    }
    return Known(defence, x, y, k, clean, lambda threat: by_inputs[threat.split("/")[0]])


def bounds(
    codec: Codec, model: LinearModel, x: Tensor, y: Tensor, eps: float, *, co_batched_eps: float
) -> Truth:
    """Robust accuracy of the linear model under RCI, whether or not the permutation is known.

    Args:
        x, y: examples; any of them may share a batch.
        eps: l-infinity radius of an input.
        co_batched_eps: radius of its co-batched inputs: 0, or ``eps``.
    """
    matrix = codec.decoder(dtype=torch.float64) @ codec.encoder(dtype=torch.float64)
    own = matrix.diagonal()
    others = matrix.abs().sum(1) - own.abs()
    clean, worst = margins(model, x, y), worst_margins(model, x, y, eps)
    beside = worst_margins(model, x, y, co_batched_eps)
    # Co-batched inputs at their strongest, wherever pushed, and as an attack leaves them that pushes each one
    # its own way.
    anywhere, attacked = clean.abs().max() + co_batched_eps, beside.abs().max()
    right = (worst > 0) & ((own * worst[:, None] - others * anywhere) > 0).all(1)
    wrong = ((own * worst[:, None] + others * attacked) < 0).all(1)
    return Truth(right.double().mean().item(), 1 - wrong.double().mean().item())
