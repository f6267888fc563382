"""The best lower bounds on a network's margins, alone and by its Lipschitz constant."""

from math import inf, prod

import torch
from torch import Tensor

from robustbench_coded.extras.certification.affine import Affine, Bend, Matrix, Rising
from robustbench_coded.extras.certification.bounds import (
    Region,
    intervals,
    margins,
    margins_from_logits,
    off_by_rounding,
    refined,
)
from robustbench_coded.extras.certification.graph import Graph, GraphStep

# Margins that shrink no faster than by eps times a Lipschitz constant: the product of the layers' norms.
#
# Exact for linear maps in l2 and for layers that keep distances; loose for nearly everything else.


DENSE = 256  # numbers in and out up to which a step is written out as a matrix
ROUNDED = 1 + 1e-9  # singular values are found in float64


def constants(graph: Graph) -> list[float]:
    """For every value, a bound on its change in l2 by a change of the images of size 1 in l2."""
    found = [1.0]
    for step in graph.steps:
        before = [found[i] for i in step.inputs]
        if isinstance(step.op, Bend):
            found.append(before[0] * max(1.0, abs(step.op.slope)))
        elif isinstance(step.op, Rising):
            found.append(inf)
        else:
            found.append(_norms(graph, step, before))
    return found


def lipschitz_margins(graph: Graph, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Lower bounds [n, classes] on how far class y is ahead of each; infinite for y itself.

    Args:
        x: images [n, C, H, W], float64.
        radius: how far each image may move in l2, in pixel units, [n].
    """
    logits = graph.logits(x)
    lead = logits.gather(1, y[:, None]) - logits
    known, last = constants(graph), graph.steps[-1]
    if isinstance(last.op, Matrix) and last.op.weight.ndim == 2:
        weight = last.op.weight
        slope = (weight[y].unsqueeze(1) - weight).norm(dim=2) * known[last.inputs[0]]
    else:
        slope = torch.full_like(lead, 2**0.5 * known[-1])
    return (lead - radius.unsqueeze(1) * slope * ROUNDED).scatter(1, y[:, None], inf)


def _norms(graph: Graph, step: GraphStep, before: list[float]) -> float:
    """Of an affine step: its norm on all its inputs together, weighted by what those may change."""
    shapes = [graph.shape(i) for i in step.inputs]
    numbers = [prod(shape) for shape in shapes]
    op = step.op
    assert not isinstance(op, Bend | Rising)
    first = next(iter(_tensors(op)), torch.zeros(1, dtype=torch.float64))
    if max(*numbers, prod(step.shape), 1) > DENSE:
        # ||A||_2^2 <= ||A||_1 ||A||_inf, input by input.
        ones = [first.new_ones(1, *shape) for shape in shapes]
        total = 0.0
        for i, change in enumerate(before):
            alone = [o if i == j else torch.zeros_like(o) for j, o in enumerate(ones)]
            rows = float(op.spread(*alone).amax())
            with torch.enable_grad():
                at = [o.clone().requires_grad_() for o in ones]
                columns = torch.autograd.grad(op.spread(*at).sum(), at)[i]
            total += (rows * float(columns.amax())) ** 0.5 * change
        return total
    rows_of = torch.eye(prod(step.shape), dtype=torch.float64, device=first.device).view(-1, *step.shape)
    matrices = [part.reshape(len(rows_of), -1) for part in op.transpose(rows_of)]
    if inf in before:
        return inf
    # ||sum A_i v_i||^2 <= sum ||A_i^T A_j|| c_i c_j, |v_i| <= c_i: what goes to other places does not add up.
    square = sum(
        float(torch.linalg.matrix_norm(a.T @ b, 2)) * c * d
        for a, c in zip(matrices, before, strict=True)
        for b, d in zip(matrices, before, strict=True)
    )
    return float(square**0.5)


def _tensors(op: Affine) -> list[Tensor]:
    return [value for value in vars(op).values() if isinstance(value, Tensor)]


FOLLOWED = 20_000  # numbers before bends, up to which each whose sign is open is followed back
AT_ONCE = 16  # images


@torch.no_grad()
def least_margins(graph: Graph, region: Region, y: Tensor) -> Tensor:
    """Lower bounds [n, classes] on class y's lead over each class in float32; infinite for y itself.

    Images that are answered wrongly have some bound of 0 or less anyway, and are not followed.

    Args:
        region: of n images; y: their labels.
    """
    return torch.cat(
        [_of_some(graph, region[i : i + AT_ONCE], y[i : i + AT_ONCE]) for i in range(0, len(y), AT_ONCE)]
    )


def follows_all(graph: Graph) -> bool:
    """Whether the network is small enough for linear bounds on every value, not on its margins alone."""
    return sum(graph.shape(value).numel() for value in graph.bent) <= FOLLOWED


def _of_some(graph: Graph, region: Region, y: Tensor) -> Tensor:
    bounds = intervals(graph, region)
    logits = graph.logits(region.centre)
    found = margins_from_logits(*bounds[-1], y)
    if region.l2 is not None:
        found = torch.maximum(found, lipschitz_margins(graph, region.centre, y, region.reach()))
    off = off_by_rounding(logits)
    found = (found - off).scatter(1, y[:, None], torch.inf)
    right = logits.argmax(1) == y
    left = (right & (found.amin(1) <= 0)).nonzero().squeeze(1)
    if len(left):
        followed = _followed(graph, region[left], y[left]) - off[left]
        found[left] = torch.maximum(found[left], followed)
    return found


def _followed(graph: Graph, region: Region, y: Tensor) -> Tensor:
    bounds_of = refined if follows_all(graph) else intervals
    return margins(graph, region, bounds_of(graph, region), y)
