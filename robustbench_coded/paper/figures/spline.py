"""Lemma 1 of arXiv 2510.00253: the error of coded smoothing over N."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from robustbench_coded.coding import codec
from robustbench_coded.data.registry import data_for, load_data
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.models.loading import check_data, load_checkpoint
from robustbench_coded.paper.figures.written import PaperFigure
from robustbench_coded.reports.figures.style import WIDTH, drawing, style_of, styled
from robustbench_coded.reports.text.formatting import TextTable

K = 16
DIMENSION = 8  # of the inputs of the formulas
BATCHES = 5
SEED = 0  # of the formulas and their inputs
SIZES = tuple(round(K * 2 ** (step / 2)) for step in range(13))  # K to 64 K
_FITTED = 8 * K  # from here on a slope is fitted
PAPER = (
    "Lemma 1 of arXiv 2510.00253 bounds the squared error by C / N^3, with derivatives of the network in C: "
    "a power of -3 or less agrees with it."
)

Function = Callable[[Tensor], Tensor]


def formulas() -> dict[str, Function]:
    """Random networks of one hidden layer in float64: one infinitely often differentiable, one with kinks."""
    generator = stream(SEED, -1, "probe")
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
    values = []
    for x in batches:
        with torch.no_grad():
            exact = f(x)
            estimate = codec.Codec(len(x), n).smoothed(x[None], f)[0]
        values.append(float((estimate - exact).square().mean() / exact.square().mean()))
    return values


def slope(sizes: Sequence[int], means: Sequence[float]) -> float:
    """Exponent of the power law fitted to the errors from ``8 K`` on."""
    points = [(n, e) for n, e in zip(sizes, means, strict=True) if n >= _FITTED and e > 0]
    n, e = (np.log(values) for values in zip(*points, strict=True))
    return float(np.polyfit(n, e, 1)[0])


def networks_of(
    paths: Sequence[tuple[str, str]], data: str, data_dir: Path | None
) -> dict[str, tuple[Function, Sequence[Tensor]]]:
    """Checkpoints by name as networks, and batches of K test images that all of them take."""
    loaded = [load_checkpoint(path, name=name) for name, path in paths]
    first = loaded[0]
    if data == "auto":
        data = data_for(first.metadata, first.classes, first.channels, first.image_size)
    images = load_data(data, data_dir=data_dir)
    if len(images) < K:
        raise InputError(f"{data} has {len(images)} images; a batch takes {K}")
    starts = range(0, min(BATCHES, len(images) // K) * K, K)
    batches = [images.batch(range(start, start + K))[0] for start in starts]
    networks: dict[str, tuple[Function, Sequence[Tensor]]] = {}
    for checkpoint in loaded:
        check_data(checkpoint, images.image_shape, images.classes, images.name)
        x, y = images.batch(range(min(512, len(images))))
        networks[checkpoint.name] = with_normalisation(checkpoint, x, y), batches
    return networks


def lemma1(networks: Mapping[str, tuple[Function, Sequence[Tensor]]] | None = None) -> PaperFigure:
    """Errors of two formulas and of trained networks over N.

    Args:
        networks: name -> a network from inputs to outputs, and batches of K = 16 inputs.
    """
    generator = stream(SEED, 0, "probe")
    random = [torch.randn(K, DIMENSION, generator=generator, dtype=torch.float64) for _ in range(BATCHES)]
    functions: dict[str, tuple[Function, Sequence[Tensor]]] = {
        name: (f, random) for name, f in formulas().items()
    }
    functions |= networks or {}
    lines, rows = [], []
    with styled():
        figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
        axes = figure.subplots()
        highest = 0.0
        for style, (name, (f, batches)) in enumerate(functions.items()):
            table = np.array([errors(f, batches, n) for n in SIZES])
            rows += [
                (name, batch, K, n, float(error))
                for n, of_batches in zip(SIZES, table, strict=True)
                for batch, error in enumerate(of_batches)
            ]
            means = table.mean(1)
            highest = max(highest, means[0])
            exponent = slope(SIZES, means.tolist())
            lines.append((name, f"{exponent:.1f}", f"{means[0]:.1e}", f"{means[-1]:.1e}"))
            look = style_of(style, name)
            axes.plot(SIZES, means, **{**look, "label": f"{look['label']}: N^{exponent:.1f}"})
            axes.fill_between(SIZES, table.min(1), table.max(1), color=look["color"], alpha=0.15)
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
    columns = ("function", "batch", "k", "n", "relative_error")
    numbers = dict(zip(columns, zip(*rows, strict=True), strict=True))
    return PaperFigure(drawn, numbers, summary, PAPER)
