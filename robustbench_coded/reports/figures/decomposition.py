"""What each advantage of the attacker takes away."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from robustbench_coded.reports.figures.style import COLOURS, WIDTH, Drawing, drawing, label
from robustbench_coded.reports.text.formatting import subject_text
from robustbench_coded.results.judgements import Judgement

SOURCES = ("randomness", "optimisation", "coupling")
MOST = 12


def draw(judgements: Sequence[Judgement]) -> Drawing | None:
    """A group of bars per subject; None where no part could be formed."""
    shown = [j for j in judgements if j.parts][:MOST]
    if not shown:
        return None
    figure = Figure(figsize=(WIDTH, 1.2 + 0.55 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for i, source in enumerate(SOURCES):
        found = [(place, part) for place, j in enumerate(shown) for part in j.parts if part.source == source]
        if not found:
            continue
        parts = [part.difference for _, part in found]
        below = [100 * (part.estimate - part.low) for part in parts]
        above = [100 * (part.high - part.estimate) for part in parts]
        axes.barh(
            [place + 0.26 * (i - 1) for place, _ in found],
            [100 * part.estimate for part in parts],
            0.24,
            xerr=[below, above],
            color=COLOURS[i],
            label=source,
            error_kw={"elinewidth": 0.8},
        )
    axes.set_yticks(range(len(shown)), [label(subject_text(j.subject, with_k=True), 44) for j in shown])
    axes.set_ylim(len(shown) - 0.45, -0.55)  # the first on top
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_xlabel("accuracy that the advantage takes away, points")
    figure.legend(loc="outside upper center", ncols=3)
    caption = (
        "Paired differences with 95% intervals. randomness: draw unknown less known; optimisation: draw "
        "known less the same started from transfer and run longer; coupling: all inputs of the batch less "
        "one victim."
    )
    return drawing(figure, "decomposition", "Where accuracy above the base model comes from", caption)
