"""How far the logits that a network answers in float32 can lie from those of exact arithmetic.

Bounds are worked out in float64, attacks are scored in float32. A sum of k products is off by at most
k u / (1 - k u) times the sum of their absolute values, in whatever order it is made (Higham, Accuracy and
Stability of Numerical Algorithms, section 3.1), u = 2^-24. What one step is off by, the next ones carry on:
a running bound over all inputs of a region. ``SAFETY`` covers sums that are not made as such (Winograd's
convolutions) and what float64 rounds.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from robustbench_coded.certification.bends import Bend, Interval, Rising
from robustbench_coded.certification.graph import Graph

UNIT = 2.0**-24
SAFETY = 2.0
FUNCTION = 8 * UNIT  # of a function's own value: sigmoid, tanh


def rounding(graph: Graph, bounds: Sequence[Interval], start: Tensor | None = None) -> Tensor:
    """How far each logit may be off, [n, classes].

    Args:
        bounds: intervals of all values over the region.
        start: how far the images may be off; by default, as a float32 is of a sum of two.
    """
    off = [UNIT * largest(bounds[0]) if start is None else start]
    for made, step in enumerate(graph.steps, start=1):
        before = [off[i] for i in step.inputs]
        if isinstance(step.op, Bend):
            off.append(before[0] * max(1.0, abs(step.op.slope)) + UNIT * largest(bounds[made]))
        elif isinstance(step.op, Rising):
            most = before[0].flatten(1).amax(1).view(-1, *(1,) * len(step.shape))
            off.append(most + FUNCTION * largest(bounds[made]))
        else:
            sizes = [largest(bounds[i]) + off[i] for i in step.inputs]
            constant = step.op.forward(*(torch.zeros_like(s[:1]) for s in sizes)).abs()
            share = sum_off(step.op.fan_in)
            off.append(step.op.spread(*before) + share * (step.op.spread(*sizes) + constant))
    return off[-1]


def sum_off(terms: int) -> float:
    """By how much a sum of so many products may be off, as a share of the sum of their absolute values."""
    return SAFETY * terms * UNIT / (1 - SAFETY * terms * UNIT)


def largest(bound: Interval) -> Tensor:
    low, high = bound
    return torch.maximum(low.abs(), high.abs())
