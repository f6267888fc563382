"""Figures on the codec: Lemma 1 of arXiv 2510.00253, and the smoothness of answers along the encoder's
curve.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from robustbench_coded.coding import codec, spline
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.paper.figures.written import PaperFigure
from robustbench_coded.reports.figures.style import COLOURS, MARKERS, WIDTH, drawing, label, style_of, styled
from robustbench_coded.reports.text.formatting import TextTable

# How smooth trained networks are: along the encoder's curve, and along straight lines between the images.
#
# Both paths go through the K images of a batch in the order of their slots and take one unit from an image to
# the next, so a network's differences along them have the same units: change of its answer an image, and
# change of that change. Mixup asks for small second differences on the straight lines, coded smoothing on the
# curve.


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
        return spline.spline_matrix(spline.chebyshev_first(k), np.cos((2 * slots + 1) * np.pi / (2 * k)))
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
                    linestyle="none",
                    **style_of(style, path),
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


K = 16
DIMENSION = 8  # of the inputs of the formulas
BATCHES = 5
SIZES = tuple(round(K * 2 ** (step / 2)) for step in range(13))  # K to 64 K
_FITTED = 8 * K  # from here on a slope is fitted
PAPER = (
    "Lemma 1 of arXiv 2510.00253 bounds the squared error by C / N^3, with derivatives of the network in C: "
    "a power of -3 or less agrees with it."
)

Function = Callable[[Tensor], Tensor]


def formulas(seed: int) -> dict[str, Function]:
    """Random networks of one hidden layer in float64: one infinitely often differentiable, one with kinks."""
    generator = stream(seed, -1, "probe")
    first = torch.randn(DIMENSION, 32, generator=generator, dtype=torch.float64) / DIMENSION**0.5
    second = torch.randn(32, 4, generator=generator, dtype=torch.float64) / 32**0.5
    return {
        "tanh network": lambda x: (x @ first).tanh() @ second,
        "ReLU network": lambda x: (x @ first).relu() @ second,
    }


def errors(f: Function, batches: Sequence[Tensor], n: int) -> list[float]:
    """Mean squared error of coded smoothing through N points on each batch, over the mean square of f.

    Args:
        f: ``[b, ...]`` -> ``[b, m]``.
        batches: ``[K, ...]`` each.
    """
    found = []
    for x in batches:
        with torch.no_grad():
            exact = f(x)
            estimate = codec.CodedSmoothing(len(x), n)(x, f)
        found.append(float((estimate - exact).square().mean() / exact.square().mean()))
    return found


def slope(sizes: Sequence[int], means: Sequence[float]) -> float:
    """Exponent of the power law fitted to the errors from ``8 K`` on."""
    kept = [(n, e) for n, e in zip(sizes, means, strict=True) if n >= _FITTED and e > 0]
    n, e = (np.log(values) for values in zip(*kept, strict=True))
    return float(np.polyfit(n, e, 1)[0])


def lemma1(
    networks: Mapping[str, tuple[Function, Sequence[Tensor]]] | None = None, *, seed: int = 0
) -> PaperFigure:
    """Errors of two formulas and of trained networks over N.

    Args:
        networks: name -> a network from inputs to outputs, and batches of K = 16 inputs.
        seed: of the formulas and their inputs.
    """
    generator = stream(seed, 0, "probe")
    random = [torch.randn(K, DIMENSION, generator=generator, dtype=torch.float64) for _ in range(BATCHES)]
    functions: dict[str, tuple[Function, Sequence[Tensor]]] = {
        name: (f, random) for name, f in formulas(seed).items()
    }
    functions |= networks or {}
    numbers: dict[str, list[object]] = {
        name: [] for name in ("function", "batch", "k", "n", "relative_error")
    }
    lines = []
    with styled():
        figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
        axes = figure.subplots()
        highest = 0.0
        for style, (name, (f, batches)) in enumerate(functions.items()):
            table = np.array([errors(f, batches, n) for n in SIZES])
            for n, row in zip(SIZES, table, strict=True):
                for batch, error in enumerate(row):
                    for column, value in zip(numbers, (name, batch, K, n, float(error)), strict=True):
                        numbers[column].append(value)
            means = table.mean(1)
            highest = max(highest, means[0])
            exponent = slope(SIZES, means.tolist())
            lines.append((name, f"{exponent:.1f}", f"{means[0]:.1e}", f"{means[-1]:.1e}"))
            axes.plot(
                SIZES,
                means,
                color=COLOURS[style % len(COLOURS)],
                marker=MARKERS[style % len(MARKERS)],
                label=f"{label(name)}: N^{exponent:.1f}",
            )
            axes.fill_between(
                SIZES, table.min(1), table.max(1), color=COLOURS[style % len(COLOURS)], alpha=0.15
            )
        line = [highest * (n / K) ** -3 for n in SIZES]
        axes.plot(SIZES, line, "--", color="0.4", label="C / N^3, the bound's shape")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(SIZES[::2], [str(n) for n in SIZES[::2]])
        axes.yaxis.set_major_formatter(lambda value, position: f"{value:.0e}")
        axes.minorticks_off()
        axes.set_xlabel(f"coded inputs N (K = {K})")
        axes.set_ylabel("mean squared error / mean square")
        axes.legend()
        caption = (
            f"Relative squared error of coded smoothing, mean and range over {BATCHES} batches, with the "
            f"power of N fitted from {_FITTED} on. The bound needs a second derivative, which no ReLU "
            "network has; C is chosen to meet the highest error at N = K."
        )
        drawn = drawing(figure, "lemma1", "Error of coded smoothing over N", caption)
    heads = ("Function", "Power of N", f"Error at N = {K}", f"Error at N = {SIZES[-1]:,}")
    summary = TextTable(heads, tuple(lines), frozenset(heads[1:]))
    return PaperFigure(drawn, {"lemma1": numbers}, summary, PAPER)
