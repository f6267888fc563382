"""How smooth trained networks are: along the encoder's curve, and along straight lines between the images.

Both paths go through the K images of a batch in the order of their slots and take one unit from an image to
the next, so a network's differences along them have the same units: change of its answer an image, and change
of that change. Mixup asks for small second differences on the straight lines, coded smoothing on the curve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from robustbench_coded.coding.nodes import chebyshev_first
from robustbench_coded.coding.spline import spline_matrix
from robustbench_coded.paper_figures.written import PaperFigure
from robustbench_coded.reports.figures.style import COLOURS, MARKERS, WIDTH, drawing, label, styled

STEPS = 8  # from one image to the next
_IMAGES = 512  # in one forward
PATHS = ("encoder's curve", "straight lines")


class Roughness(NamedTuple):
    """Mean size of a network's differences along one path of one batch."""

    checkpoint: str
    path: str
    answer: str  # probabilities or logits
    batch: int
    first: float  # Euclidean norm, per image
    second: float  # per image squared


def path_matrix(k: int, path: str) -> np.ndarray:
    """``[(k - 1) STEPS + 1, k]``: the images -> the points of a path; row i STEPS is image i.

    The encoder's curve is read where its angle goes on evenly, as its knots do.
    """
    slots = np.arange((k - 1) * STEPS + 1) / STEPS  # 0 at the first image, k - 1 at the last one
    if path == PATHS[0]:
        return spline_matrix(chebyshev_first(k), np.cos((2 * slots + 1) * np.pi / (2 * k)))
    left = np.minimum(slots.astype(int), k - 2)
    share = slots - left
    matrix = np.zeros((len(slots), k))
    rows = np.arange(len(slots))
    matrix[rows, left] = 1 - share
    matrix[rows, left + 1] = share
    return matrix


def differences(values: Tensor) -> tuple[float, float]:
    """Mean norms of first and second differences of ``values`` ``[(k - 1) STEPS + 1, m]`` per image.

    Second differences across an image are left out: there the straight lines have corners.
    """
    first = values.diff(dim=0).norm(dim=1) * STEPS
    second = values.diff(n=2, dim=0).norm(dim=1) * STEPS**2
    inside = torch.arange(1, len(values) - 1) % STEPS != 0
    return float(first.mean()), float(second[inside].mean())


@torch.no_grad()
def roughness(
    checkpoint: str, model: Callable[[Tensor], Tensor], batches: Sequence[Tensor]
) -> list[Roughness]:
    """All differences of one network.

    Args:
        model: pixels ``[b, C, H, W]`` -> logits ``[b, classes]``.
        batches: ``[k, C, H, W]`` in [0, 1] each.
    """
    found = []
    for number, x in enumerate(batches):
        for path in PATHS:
            matrix = torch.from_numpy(path_matrix(len(x), path)).float().to(x.device)
            points = (matrix @ x.flatten(1)).unflatten(1, x.shape[1:])
            logits = torch.cat([model(part).double().cpu() for part in points.split(_IMAGES)])
            for answer, values in (("probabilities", logits.softmax(1)), ("logits", logits)):
                found.append(Roughness(checkpoint, path, answer, number, *differences(values)))
    return found


def smoothness(
    models: Mapping[str, Callable[[Tensor], Tensor]], batches: Sequence[Tensor], *, where: str
) -> PaperFigure:
    """First and second differences of the probabilities, network by network.

    Args:
        models: name -> network.
        batches: the same for all of them.
        where: the images in words.
    """
    found = [row for name, model in models.items() for row in roughness(name, model, batches)]
    shown = [row for row in found if row.answer == "probabilities"]
    names = list(models)
    with styled():
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, order, title in zip(
            panels, ("first", "second"), ("first differences, per image", "second differences, per image²")
        ):
            for style, path in enumerate(PATHS):
                values = [
                    [getattr(row, order) for row in shown if (row.checkpoint, row.path) == (name, path)]
                    for name in names
                ]
                axes.errorbar(
                    [i + 0.16 * (style - 0.5) for i in range(len(names))],
                    [np.mean(v) for v in values],
                    yerr=[np.std(v, ddof=1) if len(v) > 1 else 0.0 for v in values],
                    color=COLOURS[style],
                    marker=MARKERS[style],
                    linestyle="none",
                    label=path,
                )
            axes.set_xticks(range(len(names)), [label(name, 18) for name in names], rotation=30, ha="right")
            axes.set_xlim(-0.5, len(names) - 0.5)
            axes.set_ylim(bottom=0)
            axes.set_title(title)
        panels[0].legend()
        caption = (
            f"Mean change of the predicted probabilities along paths through {where}, {STEPS} steps from an "
            f"image to the next; bars are sample deviations over {len(batches)} batches."
        )
        drawn = drawing(figure, "smoothness", "Smoothness along curves and lines", caption)
    return PaperFigure(
        drawn, {"smoothness": {name: [getattr(row, name) for row in found] for name in Roughness._fields}}
    )
