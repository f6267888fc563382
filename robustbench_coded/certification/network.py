"""The best lower bound on a network's margins that this package has, rounding taken off."""

import torch
from torch import Tensor

from robustbench_coded.certification import linear_bounds, lipschitz
from robustbench_coded.certification.graph import Graph
from robustbench_coded.certification.intervals import intervals, margins_from_logits
from robustbench_coded.certification.region import Region
from robustbench_coded.certification.rounding import rounding

FOLLOWED = 20_000  # numbers before bends, up to which each whose sign is open is followed back
AT_ONCE = 16  # images


@torch.no_grad()
def least_margins(graph: Graph, region: Region, y: Tensor) -> Tensor:
    """Lower bounds [n, classes] on class y's lead over each class in float32; infinite for y itself.

    Images that exact arithmetic answers wrongly have some bound of 0 or less anyway, and are not followed.

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
    off = rounding(graph, bounds)
    taken_off = off.gather(1, y[:, None]) + off
    found = margins_from_logits(*bounds[-1], y)
    if region.l2 is not None:
        found = torch.maximum(found, lipschitz.margins(graph, region.centre, y, region.reach()))
    found = (found - taken_off).scatter(1, y[:, None], torch.inf)
    right = graph.logits(region.centre).argmax(1) == y
    left = (right & (found.amin(1) <= 0)).nonzero().squeeze(1)
    if len(left):
        followed = _followed(graph, region[left], y[left])
        found[left] = torch.maximum(found[left], followed)
    return found


def _followed(graph: Graph, region: Region, y: Tensor) -> Tensor:
    bounds = linear_bounds.refined(graph, region) if follows_all(graph) else intervals(graph, region)
    off = rounding(graph, bounds)
    margins = linear_bounds.margins(graph, region, bounds, y) - off.gather(1, y[:, None]) - off
    return margins.scatter(1, y[:, None], torch.inf)
