"""Interval bounds: the least and largest value of every number in a network (arXiv 1810.12715)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from robustbench_coded.certification.bends import Bend, Interval, Rising
from robustbench_coded.certification.graph import Graph
from robustbench_coded.certification.region import Region


def intervals(graph: Graph, region: Region, known: Mapping[int, Interval] | None = None) -> list[Interval]:
    """(low, high) of every value of the graph, each [n, *shape].

    Args:
        known: bounds on some values that come from elsewhere; where both exist, the tighter holds.
    """
    return steps_from(graph, [(region.low, region.high)], known or {})


def steps_from(graph: Graph, found: list[Interval], known: Mapping[int, Interval]) -> list[Interval]:
    """The intervals of all values, from those of the first ones."""
    found = list(found)
    for step in graph.steps[len(found) - 1 :]:
        ends = [found[i] for i in step.inputs]
        if isinstance(step.op, Bend | Rising):
            low, high = step.op.interval(*ends[0])
        else:
            middle = step.op.forward(*((low + high) / 2 for low, high in ends))
            radius = step.op.spread(*((high - low) / 2 for low, high in ends))
            low, high = middle - radius, middle + radius
        other = known.get(len(found))
        if other is not None:
            low, high = torch.maximum(low, other[0]), torch.minimum(high, other[1])
        found.append((low, high))
    return found


def margins_from_logits(low: Tensor, high: Tensor, y: Tensor) -> Tensor:
    """Lower bounds [n, classes] on how far class y is ahead of each, from intervals of the logits."""
    ahead = low.gather(1, y[:, None]) - high
    return ahead.scatter(1, y[:, None], torch.inf)
