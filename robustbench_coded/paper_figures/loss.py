"""Figure 5a: validation loss during training, recipe by recipe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from robustbench_coded.ablations.records import EpochRecord
from robustbench_coded.errors import InputError
from robustbench_coded.paper_figures.written import PaperFigure
from robustbench_coded.reports.figures.style import COLOURS, MARKERS, WIDTH, drawing, logarithmic_y, styled
from robustbench_coded.reports.text.text_table import TextTable

PAPER = "Figure 5a of arXiv 2510.00253: on TinyImageNet, coded training has the lowest validation loss."


def loss(history: Sequence[EpochRecord], *, where: str) -> PaperFigure:
    """A line a recipe: the mean over seeds, in a band of one sample deviation either way.

    Args:
        history: epochs of runs that differ in recipe and seed alone.
        where: architecture and data in words.
    Raises:
        InputError: runs without validation images.
    """
    if any(row.validation_loss is None for row in history) or not history:
        raise InputError("there is no validation loss to draw; train with --validation 0.1 or another share")
    recipes = list(dict.fromkeys(row.recipe for row in history))
    with styled():
        figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
        axes = figure.subplots()
        for style, recipe in enumerate(recipes):
            epochs, mean, deviation = curve([row for row in history if row.recipe == recipe])
            colour, marker = COLOURS[style % len(COLOURS)], MARKERS[style % len(MARKERS)]
            axes.plot(
                epochs, mean, color=colour, marker=marker, markevery=max(1, len(epochs) // 10), label=recipe
            )
            axes.fill_between(epochs, mean - deviation, mean + deviation, color=colour, alpha=0.15)
        logarithmic_y(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation loss, nats")
        axes.legend()
        seeds = len({row.seed for row in history})
        caption = f"Validation loss of {where}; mean and sample deviation over {seeds} seeds."
        drawn = drawing(figure, "loss", "Validation loss during training", caption)
    columns = ("recipe", "seed", "epoch", "loss", "validation_loss", "validation_accuracy")
    tables = {"loss": {name: [getattr(row, name) for row in history] for name in columns}}
    return PaperFigure(drawn, tables, summary(history), PAPER)


def summary(history: Sequence[EpochRecord]) -> TextTable:
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
