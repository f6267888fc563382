"""The best lower bounds on a network's margins."""

import torch
from torch import Tensor

from robustbench_coded.extras.certification.bounds import (
    Region,
    intervals,
    margins,
    margins_from_logits,
    off_by_rounding,
    refined,
)
from robustbench_coded.extras.certification.graph import Graph

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
