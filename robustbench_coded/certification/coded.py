"""Bounds on coded answers: one map from the whole batch, its encoder and decoder linear.

With the permutation fixed, the answers of a batch X are D f(E X). Each coded input lies in a region of its
own, which bounds what bends in f. A margin of one decoded answer is then followed back through D, through f
at every coded input at once, and through E to all inputs of the batch, whose regions are known: what the
codec cancels, cancels in the bound.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from robustbench_coded.certification.graph import Graph
from robustbench_coded.certification.intervals import intervals
from robustbench_coded.certification.linear_bounds import ahead, backward, refined
from robustbench_coded.certification.network import follows_all
from robustbench_coded.certification.region import Region
from robustbench_coded.certification.rounding import largest, rounding, sum_off

COEFFICIENTS = 2**24  # of one value that are followed back at once, in numbers


class Matrices(NamedTuple):
    """Encoder [N, K] and decoder [K, N] of one batch, float64 of what the defence multiplies in float32."""

    encoder: Tensor
    decoder: Tensor


@torch.no_grad()
def coded_margins(graph: Graph, matrices: Matrices, region: Region, y: Tensor) -> Tensor:
    """Lower bounds [K, classes] on class y's lead in each decoded answer; infinite for y itself.

    Every input of the batch may move within its region.

    Args:
        region: of the K inputs; y: their labels.
    """
    encoder, decoder = matrices
    coded = region.mixed(encoder)
    bounds = refined(graph, coded) if follows_all(graph) else intervals(graph, coded)
    # The encoder's own rounding, then the network's, then the decoder's.
    sizes = torch.maximum(region.low.abs(), region.high.abs())
    start = sum_off(encoder.shape[1]) * torch.tensordot(encoder.abs(), sizes, dims=1)
    off = rounding(graph, bounds, start)
    off = decoder.abs() @ off + sum_off(decoder.shape[1]) * (decoder.abs() @ (largest(bounds[-1]) + off))
    classes = off.shape[1]
    numbers = max(graph.shape(v).numel() for v in range(len(graph.steps) + 1))
    at_once = max(1, COEFFICIENTS // (len(encoder) * classes * numbers))
    found = torch.cat(
        [
            _of_some(graph, matrices, region, bounds, y, slots)
            for slots in torch.arange(len(y), device=y.device).split(at_once)
        ]
    )
    found = found - off.gather(1, y[:, None]) - off
    return found.scatter(1, y[:, None], torch.inf)


def _of_some(
    graph: Graph,
    matrices: Matrices,
    region: Region,
    bounds: list[tuple[Tensor, Tensor]],
    y: Tensor,
    slots: Tensor,
) -> Tensor:
    """The bounds [s, classes] for some slots of the batch."""
    last = len(graph.steps)
    rows = ahead(y[slots], graph.shape(last).numel())  # [s, classes, classes]
    # Coded input j counts in slot k as often as the decoder says.
    a = torch.einsum("kj,kcl->jkcl", matrices.decoder[slots], rows).flatten(1, 2)
    found = None
    for parallel in (False, True):
        bound = backward(graph, bounds, last, a, parallel=parallel)
        back = torch.einsum("jk,js...->ks...", matrices.encoder, bound.a)
        this = region.least(back).sum(0) + bound.constant.sum(0)
        found = this if found is None else torch.maximum(found, this)
    assert found is not None
    return found.unflatten(0, rows.shape[:2])
