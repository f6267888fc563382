"""The paper's figures from measurements of our own: Lemma 1's error of coded smoothing over N, decision
boundaries on two spirals, and validation loss, recipe by recipe (Figure 5a of arXiv 2510.00253).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from contourpy import contour_generator
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from robustbench_coded.coding import codec
from robustbench_coded.data.registry import data_for, load_data
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.models.loading import check_data, load_checkpoint
from robustbench_coded.paper.ablations.studies import EpochRecord
from robustbench_coded.paper.studies.over_seeds import csv_cell
from robustbench_coded.paper.training import config, loader
from robustbench_coded.paper.training.config import Moment, build_recipe
from robustbench_coded.paper.training.fresh import initialise
from robustbench_coded.paper.training.stages import TrainingStages
from robustbench_coded.reports.figures.style import (
    COLOURS,
    WIDTH,
    Drawing,
    drawing,
    logarithmic_y,
    style_of,
    styled,
)
from robustbench_coded.reports.render.markdown import markdown_text_table
from robustbench_coded.reports.text import escape, formatting
from robustbench_coded.reports.text.formatting import TextTable
from robustbench_coded.runs.atomic import write_text

Numbers = Mapping[str, Sequence[object]]  # column -> values, all of one length


@dataclass(frozen=True)
class PaperFigure:
    """Attributes:
    drawing: what is seen.
    numbers: the columns of its CSV file.
    summary: the same in few figures.
    paper: what the paper says there.
    """

    drawing: Drawing
    numbers: Numbers
    summary: formatting.TextTable
    paper: str


def write_figure(figure: PaperFigure, folder: Path) -> list[Path]:
    """Writes NAME.svg, NAME.csv and NAME.md; returns the paths."""
    paths = [
        figure.drawing.write(folder),
        *(folder / f"{figure.drawing.name}.{end}" for end in ("csv", "md")),
    ]
    rows = ([csv_cell(value, 8) for value in row] for row in zip(*figure.numbers.values(), strict=True))
    write_text(paths[1], escape.csv_document(figure.numbers, rows))
    write_text(paths[2], _page(figure.drawing, figure.summary, figure.paper))
    return paths


def _page(drawn: Drawing, summary: formatting.TextTable, paper: str) -> str:
    parts = [
        f"# {escape.markdown(drawn.title)}",
        f"![{escape.markdown(drawn.title)}]({drawn.name}.svg)",
        escape.markdown(drawn.caption),
        markdown_text_table(summary),
        f"**Paper.** {escape.markdown(paper)}",
    ]
    return "\n\n".join(parts) + "\n"


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


RECIPES = ("erm", "mixup", "coded")
POINTS = 300  # of both spirals together
NOISE = 0.05
BATCH = 100
GRID = 121  # points a side
EXTENT = 1.3
_PEAK = 0.1
SPIRAL_PAPER = (
    "Figure 1b of arXiv 2510.00253 shows a smoother boundary for coded training. A smoother boundary is "
    "shorter and farther from the points; one that is too smooth costs accuracy."
)


class TrainingFit(NamedTuple):
    """One network and what was measured of it.

    Lengths are in units of the plane, in which the spirals reach out to 1.
    """

    recipe: str
    seed: int
    accuracy: float  # of fresh points, in [0, 1]
    boundary_length: float
    margin_mean: float  # distance of the training points to the boundary
    margin_smallest: float
    grid: np.ndarray  # [GRID, GRID], probability of class 1; rows are y


def spirals(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noisy points of two spirals of one and a half turns: x ``[count, 2]``, y ``[count]``, half a class."""
    y = torch.arange(count) % 2
    radius = 0.1 + 0.9 * torch.rand(count, generator=generator).sqrt()
    angle = 3 * math.pi * radius + math.pi * y
    x = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    return x + NOISE * torch.randn(count, 2, generator=generator), y


def fit(recipe: str, seed: int, epochs: int) -> TrainingFit:
    """Trains a network of two hidden layers; all recipes have the same points and first weights."""
    x, y = spirals(POINTS, loader.stream(seed, "split"))
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
    )
    initialise(network, loader.stream(seed, "initialisation"))
    stages = TrainingStages(network, [0.0, 0.0], [1.0, 1.0]).train()
    loss_of = build_recipe(recipe)
    optimizer = torch.optim.SGD(stages.parameters(), lr=_PEAK, momentum=0.9, weight_decay=1e-4)
    steps = POINTS // BATCH
    for epoch in range(epochs):
        order = torch.randperm(POINTS, generator=loader.stream(seed, "order", epoch))
        moment = Moment(epoch, epochs, loader.stream(seed, "recipe", epoch))
        for step in range(steps):
            rows = order[step * BATCH : (step + 1) * BATCH]
            for group in optimizer.param_groups:
                group["lr"] = config.one_cycle((epoch * steps + step + 0.5) / (epochs * steps), _PEAK)
            optimizer.zero_grad()
            # Points of the plane as images of two channels and one pixel.
            loss_of(stages, x[rows, :, None, None], y[rows], moment).backward()
            optimizer.step()
    return _measured(recipe, seed, stages.eval(), x)


@torch.no_grad()
def _measured(recipe: str, seed: int, stages: TrainingStages, x: Tensor) -> TrainingFit:
    fresh, labels = spirals(4000, loader.stream(seed, "split", 1))
    answers = stages(fresh[:, :, None, None]).argmax(1)
    axis = torch.linspace(-EXTENT, EXTENT, GRID)
    plane = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).view(-1, 2, 1, 1)
    grid = stages(plane).softmax(1)[:, 1].view(GRID, GRID).numpy()
    lines: Any = contour_generator(axis.numpy(), axis.numpy(), grid).lines(0.5)  # [points, 2] each
    length = sum(float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum()) for line in lines)
    # A network that calls everything one class has no boundary, and its points no distance to it.
    nearest = torch.cdist(x, torch.from_numpy(np.concatenate(lines)).float()).amin(1) if lines else None
    return TrainingFit(
        recipe,
        seed,
        float((answers == labels).float().mean()),
        length,
        math.nan if nearest is None else float(nearest.mean()),
        math.nan if nearest is None else float(nearest.min()),
        grid,
    )


def spiral(*, seeds: int = 3, epochs: int = 300) -> PaperFigure:
    """The figure with the first seed's boundaries; its numbers with all seeds.

    Args:
        seeds: networks a recipe, each with points of its own.
        epochs: of three steps each.
    """
    fits = [fit(recipe, s, epochs) for recipe in RECIPES for s in range(seeds)]
    shown = [f for f in fits if f.seed == 0]
    with styled():
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        x, y = spirals(POINTS, loader.stream(0, "split"))
        for axes, net in zip(figure.subplots(1, len(shown)), shown, strict=True):
            _panel(axes, net, x.numpy(), y.numpy(), [f for f in fits if f.recipe == net.recipe])
        caption = (
            "Probability of one class over the plane and the boundary between the two; lengths and "
            "accuracies of fresh points are means over seeds."
        )
        drawn = drawing(figure, "spiral", "Decision boundaries on two spirals", caption)
    names = ("recipe", "seed", "accuracy", "boundary_length", "margin_mean", "margin_smallest")
    numbers: Numbers = {name: [getattr(f, name) for f in fits] for name in names}
    return PaperFigure(drawn, numbers, spiral_summary(fits), SPIRAL_PAPER)


def spiral_summary(fits: Sequence[TrainingFit]) -> TextTable:
    """Means over seeds."""
    lines = []
    for recipe in dict.fromkeys(net.recipe for net in fits):
        here = [net for net in fits if net.recipe == recipe]
        columns = zip(*((net.accuracy, net.boundary_length, net.margin_mean) for net in here), strict=True)
        lines.append((recipe, str(len(here)), *(f"{np.mean(values):.3f}" for values in columns)))
    heads = ("Training", "Seeds", "Accuracy", "Boundary length", "Mean margin")
    return TextTable(heads, tuple(lines), frozenset(heads[1:]))


def _panel(axes: Axes, net: TrainingFit, x: np.ndarray, y: np.ndarray, fits: Sequence[TrainingFit]) -> None:
    axis = np.linspace(-EXTENT, EXTENT, GRID)
    # As pixels, not as areas: the SVG is a tenth as large.
    frame = (-EXTENT, EXTENT, -EXTENT, EXTENT)
    axes.imshow(net.grid, extent=frame, origin="lower", vmin=0, vmax=1, cmap="coolwarm", alpha=0.6)
    axes.contour(axis, axis, net.grid, levels=[0.5], colors="black", linewidths=1.0)
    for label, colour in ((0, COLOURS[0]), (1, COLOURS[1])):
        axes.scatter(x[y == label, 0], x[y == label, 1], s=3, color=colour, rasterized=True)
    accuracy = 100 * np.mean([f.accuracy for f in fits])
    length = np.mean([f.boundary_length for f in fits])
    axes.set_title(f"{net.recipe}: {accuracy:.1f}%, length {length:.1f}")
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])


LOSS_PAPER = "Figure 5a of arXiv 2510.00253: on TinyImageNet, coded training has the lowest validation loss."


def loss(history: Sequence[EpochRecord], *, where: str) -> PaperFigure:
    """A line a recipe: the mean over seeds, in a band of one sample deviation either way.

    Args:
        history: epochs of runs that differ in recipe and seed alone.
        where: architecture and data in words.
    Raises:
        InputError: runs without validation images.
    """
    if any(row.validation_loss is None for row in history) or not history:
        raise InputError("there is no validation loss to draw; train with -o validation=0.1 or another share")
    recipes = list(dict.fromkeys(row.recipe for row in history))
    with styled():
        figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
        axes = figure.subplots()
        for style, recipe in enumerate(recipes):
            epochs, mean, deviation = curve([row for row in history if row.recipe == recipe])
            look = style_of(style, recipe)
            axes.plot(epochs, mean, markevery=max(1, len(epochs) // 10), **look)
            axes.fill_between(epochs, mean - deviation, mean + deviation, color=look["color"], alpha=0.15)
        logarithmic_y(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation loss, nats")
        axes.legend()
        seeds = len({row.seed for row in history})
        caption = f"Validation loss of {where}; mean and sample deviation over {seeds} seeds."
        drawn = drawing(figure, "loss", "Validation loss during training", caption)
    columns = ("recipe", "seed", "epoch", "loss", "validation_loss", "validation_accuracy")
    numbers = {name: [getattr(row, name) for row in history] for name in columns}
    return PaperFigure(drawn, numbers, loss_summary(history), LOSS_PAPER)


def loss_summary(history: Sequence[EpochRecord]) -> TextTable:
    """The validation loss of the last epoch, and of the best one by its mean over seeds."""
    lines = []
    for recipe in dict.fromkeys(row.recipe for row in history):
        rows = [row for row in history if row.recipe == recipe]
        _, mean, deviation = curve(rows)
        best = int(mean.argmin())
        seeds = str(len({row.seed for row in rows}))
        lines.append((recipe, seeds, *(f"{mean[i]:.3f} ± {deviation[i]:.3f}" for i in (-1, best))))
    heads = ("Training", "Seeds", "Last epoch, nats", "Best epoch, nats")
    return TextTable(heads, tuple(lines), frozenset(heads[1:]))


def curve(rows: Sequence[EpochRecord]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Epochs, mean validation loss and its sample deviation over seeds (0 for one seed)."""
    epochs = sorted({row.epoch for row in rows})
    table = [[row.validation_loss or 0.0 for row in rows if row.epoch == epoch] for epoch in epochs]
    mean = np.array([np.mean(values) for values in table])
    deviation = np.array([np.std(values, ddof=1) if len(values) > 1 else 0.0 for values in table])
    return np.array(epochs), mean, deviation
