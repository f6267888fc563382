"""A study as a figure: clean accuracy on the left, attacked on the right, deviations over seeds."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustbench_coded.ablations.results import Result
from robustbench_coded.ablations.studies import Study
from robustbench_coded.reports.figures.style import COLOURS, MARKERS, WIDTH, Drawing, drawing, label, styled


def draw(study: Study, results: Sequence[Result]) -> Drawing:
    """Two panels; settings with an order lie on an axis of numbers, the others side by side."""
    names = list(dict.fromkeys(r.point.name for r in results))
    numbers = {r.point.name: r.point.x for r in results if r.point.x is not None}
    at = {name: numbers.get(name, float(i)) for i, name in enumerate(names)}
    accuracies = [r for r in results if r.figure == "accuracy" and r.mean is not None]
    with styled():
        figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
        clean, attacked = figure.subplots(1, 2)
        for axes, chosen, title in (
            (clean, [r for r in accuracies if r.attack == "clean"], "unperturbed inputs"),
            (attacked, [r for r in accuracies if r.attack != "clean"], "attacked inputs"),
        ):
            _lines(axes, chosen, at, joined=bool(numbers))
            axes.set_title(title)
            axes.set_xlabel(study.head)
            if not numbers:
                axes.set_xticks(
                    range(len(names)), [label(name, 18) for name in names], rotation=30, ha="right"
                )
                axes.set_xlim(-0.5, len(names) - 0.5)
        _paper(clean, accuracies, at)
        clean.set_ylabel("accuracy, %")
        attacked.set_ylim(-3, 103)
        for axes in (clean, attacked):  # a colour means something else in each
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.08), fontsize=7)
        caption = "Means over seeds; bars are sample standard deviations. The two axes have different scales."
        return drawing(figure, study.name, study.title, caption)


def _lines(axes: Axes, results: Sequence[Result], at: dict[str, float], *, joined: bool) -> None:
    kinds = list(dict.fromkeys((r.inference.name, r.attack) for r in results))
    for style, kind in enumerate(kinds):
        chosen = [r for r in results if (r.inference.name, r.attack) == kind]
        shift = 0.0 if joined else 0.1 * (style - (len(kinds) - 1) / 2)  # bars side by side
        axes.errorbar(
            [at[r.point.name] + shift for r in chosen],
            [100 * (r.mean or 0.0) for r in chosen],
            yerr=[100 * (r.deviation or 0.0) for r in chosen],
            color=COLOURS[style % len(COLOURS)],
            marker=MARKERS[style % len(MARKERS)],
            linestyle="-" if joined else "none",
            label=kind[0] if kind[1] == "clean" else f"{kind[0]}, {kind[1]}",
        )


def _paper(axes: Axes, results: Sequence[Result], at: dict[str, float]) -> None:
    """The paper's accuracies as grey crosses."""
    chosen = [(at[r.point.name], 100 * r.paper) for r in results if r.paper is not None]
    if chosen:
        x, y = zip(*chosen, strict=True)
        axes.plot(x, y, "x", color="0.5", label="paper, standard")
