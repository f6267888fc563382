"""The figures of docs/finding.md, from the committed runs of the study (`make study-table` runs it).

python docs/finding_figures.py
"""

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.evidence import rows_of
from docs.finding_study import (
    ATTACKS,
    CONTROLLED,
    NETWORKS,
    PREACT,
    ROOT,
    controlled,
    gains,
    is_subject,
    other_networks,
)
from robustbench_coded.reports.figures.style import (
    COLUMN,
    WIDTH,
    Drawing,
    drawing,
    legend,
    style_of,
    styled,
)

FOLDER = ROOT / "docs"
MARGIN = 3  # points; smaller gains do not count
# The attacks on RCI with ERM, from weak to strong, and how the legend names them.
ATTACK_NAMES = (
    "PGD-10, cross-entropy",
    "100 steps on the margin",
    "transfer PGD-20 from the base model",
    "then 100 steps on the margin",
)


def main() -> None:
    for figure in figures():
        figure.write(FOLDER)


def figures() -> list[Drawing]:
    with styled():
        return [gain_by_budget(), accuracy_by_attack(), beside_controls()]


def gain_by_budget() -> Drawing:
    """Gain of RCI over its base model, by network; those that others trained are beside ours."""
    figure, (axes,) = _figure(1)
    rows, others = [row for row in gains() if row["eps_space"] == "pixel"], list(other_networks())
    series = {network: [row for row in rows if row["checkpoint"] == network] for network in NETWORKS}
    series["erm, PreActResNet-18"] = [row for row in others if row["checkpoint"] == PREACT]
    for place, (name, own) in enumerate(series.items()):
        own.sort(key=_budget)
        at = [_budget(row) * 1.04 ** (place - 1) for row in own]
        _points(axes, at, own, "gain", ("gain_low", "gain_high"), place, name)
    for number, row in enumerate(row for row in others if row["checkpoint"] != PREACT):
        at = [_budget(row) * 1.04 ** (len(series) - 1 + number)]
        _points(axes, at, [row], "gain", ("gain_low", "gain_high"), len(series), "trained by others")
    axes.axhline(MARGIN, color="#8a8f98", linestyle=":", label="3 points, the smallest gain that counts")
    _budgets(axes)
    axes.set_ylabel("gain in robust accuracy, points")
    legend(figure, [axes])
    return drawing(figure, "finding-gain", "Gain of RCI by perturbation budget", "")


def accuracy_by_attack() -> Drawing:
    """Accuracy of ERM under each attack, with RCI, and of its base model."""
    figure, (axes,) = _figure(1)
    cells = sorted(
        (row for row in gains() if (row["checkpoint"], row["eps_space"]) == ("erm", "pixel")), key=_budget
    )
    for place, (attack, name) in enumerate(zip(ATTACKS, ATTACK_NAMES, strict=True)):
        rows = [
            row
            for cell in cells
            for row in filter(is_subject, rows_of(cell["run"], "summary"))
            if row["attack"] == attack and row["accuracy"]
        ]
        at = [_budget(row) for row in rows]
        _points(axes, at, rows, "accuracy", ("ci_low", "ci_high"), place, name)
    axes.plot(
        [_budget(cell) for cell in cells],
        [100 * float(cell["base_accuracy"]) for cell in cells],
        color="#000000",
        linestyle="--",
        label="base model under its strongest attack",
    )
    _budgets(axes)
    axes.set_ylabel("accuracy, %")
    legend(figure, [axes], columns=2)
    return drawing(figure, "finding-attacks", "Accuracy of ERM with RCI under each attack", "")


def beside_controls() -> Drawing:
    """Accuracy of RCI, of noise and of the code in a fixed order, with that of each one's base model."""
    figure, panels = _figure(len(CONTROLLED))
    for axes, (network, eps) in zip(panels, CONTROLLED, strict=True):
        rows = controlled(network, eps)
        for place, (name, row) in enumerate(rows.items()):
            _points(axes, [place], [row], "accuracy", ("ci_low", "ci_high"), place, name)
        base = [100 * float(row["base_accuracy"]) for row in rows.values()]
        axes.plot(range(len(base)), base, "_", color="#000000", markersize=14, label="its base model")
        axes.set_xticks(
            range(len(base)), [f"{100 * float(row['clean_accuracy']):.1f}%" for row in rows.values()]
        )
        axes.set_xlim(-0.5, len(base) - 0.5)
        axes.set_title(f"{network}, eps {eps}")
        axes.set_xlabel("clean accuracy")
    panels[0].set_ylabel("accuracy under attack, %")
    legend(figure, panels, columns=4)
    return drawing(figure, "finding-controls", "RCI and controls of about the same clean accuracy", "")


def _figure(count: int) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(WIDTH if count > 1 else 1.5 * COLUMN, 3.2), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False, sharey=True).flat)


def _points(
    axes: Axes,
    at: Iterable[float],
    rows: Sequence[dict[str, str]],
    middle: str,
    ends: tuple[str, str],
    style: int,
    name: str,
) -> None:
    """Percentages of ``rows`` at ``at``, with their intervals; the point alone where a row has none."""
    value, low, high = (
        [100 * float(row[column] or row[middle]) for row in rows] for column in (middle, *ends)
    )
    bars = (
        [max(v - end, 0.0) for v, end in zip(value, low, strict=True)],
        [max(end - v, 0.0) for v, end in zip(value, high, strict=True)],
    )
    axes.errorbar(list(at), value, yerr=bars, **{**style_of(style, name), "label": name})


def _budget(row: dict[str, str]) -> float:
    return 255 * float(row["eps"])


def _budgets(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks([0.5, 1, 2, 4, 8], [f"{eps}/255" for eps in (0.5, 1, 2, 4, 8)])
    axes.minorticks_off()
    axes.set_xlabel("eps (linf, pixels)")


if __name__ == "__main__":
    main()
