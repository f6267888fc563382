"""Samples: what was drawn keeps its value, and has the gradient of what it was drawn from."""

from typing import Any

import torch
from torch import Tensor

from attacks.relaxation.call import UNSEEN, Call, Handler, Relaxing, first
from attacks.relaxation.choosing import with_choice
from attacks.relaxation.graft import graft, sloped
from attacks.relaxation.shadow import live


def coin(mode: Relaxing, call: Call) -> Any:
    """bernoulli, binomial's mean aside, and poisson: their expectation is the probability, or the rate."""
    p = first(call)
    if not live(p) or (len(call.args) > 1 and isinstance(call.args[1], int | float)):
        return UNSEEN
    return sloped(call.real(), p, 1.0, mode.record.note(call.name))


def counts(mode: Relaxing, call: Call) -> Any:
    """binomial: its mean is count times probability."""
    n, p = call.arg(0, "count"), call.arg(1, "prob")
    if not (live(n) or live(p)):
        return UNSEEN
    real = call.real()
    return graft(real, n * p, mode.record.note("binomial"))


def category(mode: Relaxing, call: Call) -> Any:
    """multinomial: an index, chosen with the probabilities that were given."""
    p = first(call)
    if not live(p):
        return UNSEEN
    real = call.real()
    likely = p / p.sum(-1, keepdim=True)
    choice = likely.unsqueeze(-2).expand(*real.shape, p.shape[-1])
    return with_choice(real, choice, mode.record.note("multinomial"))


def bell(mode: Relaxing, call: Call) -> Any:
    """normal(mean, std) as mean + std * noise."""
    mean, std = call.arg(0, "mean"), call.arg(1, "std", 1.0)
    if not (live(mean) or live(std)):
        return UNSEEN
    real = call.real()
    noise = (real - (mean.detach() if isinstance(mean, Tensor) else mean)) / (
        std.detach() if isinstance(std, Tensor) else std
    )
    soft = mean + std * torch.nan_to_num(noise, nan=0.0, posinf=0.0, neginf=0.0)
    return graft(real, soft, mode.record.note("normal"))


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("bernoulli", "poisson"), coin),
    "binomial": counts,
    "multinomial": category,
    "normal": bell,
}
