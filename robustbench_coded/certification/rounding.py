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


def rounding(graph: Graph, bounds: Sequence[Interval]) -> Tensor:
    """How far each logit may be off, [n, classes].

    Args:
        bounds: intervals of all values over the region.
    """
    off = [torch.zeros_like(bounds[0][0])]
    for made, step in enumerate(graph.steps, start=1):
        before = [off[i] for i in step.inputs]
        if isinstance(step.op, Bend):
            off.append(before[0] * max(1.0, abs(step.op.slope)) + UNIT * _largest(bounds[made]))
        elif isinstance(step.op, Rising):
            most = before[0].flatten(1).amax(1).view(-1, *(1,) * len(step.shape))
            off.append(most + FUNCTION * _largest(bounds[made]))
        else:
            sizes = [_largest(bounds[i]) + off[i] for i in step.inputs]
            constant = step.op.forward(*(torch.zeros_like(s[:1]) for s in sizes)).abs()
            terms = step.op.fan_in * UNIT * SAFETY
            off.append(step.op.spread(*before) + terms / (1 - terms) * (step.op.spread(*sizes) + constant))
    return off[-1]


def _largest(bound: Interval) -> Tensor:
    low, high = bound
    return torch.maximum(low.abs(), high.abs())
