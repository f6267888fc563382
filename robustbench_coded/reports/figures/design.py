"""What knowing the draw and starting from the base model's perturbation take away: the 2 x 2 design."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from robustbench_coded.reports.figures.style import COLOURS, WIDTH, Drawing, drawing, first_of, label
from robustbench_coded.reports.text.formatting import subject_text
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.statistics.design import Design

MOST = 12


def draw(judgements: Sequence[Judgement]) -> Drawing | None:
    """A group of bars per subject; None where no design was run."""
    found = [(j, j.design) for j in judgements if j.design is not None]
    shown = found[:MOST]
    if not shown:
        return None
    figure = Figure(figsize=(WIDTH, 1.4 + 0.75 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for i, name in enumerate(_effects(shown[0][1])):
        effects = [_effects(made)[name] for _, made in shown]
        below = [100 * (estimate - low) for estimate, low, _ in effects]
        above = [100 * (high - estimate) for estimate, _, high in effects]
        axes.barh(
            [place + 0.17 * (i - 2) for place in range(len(shown))],
            [100 * estimate for estimate, _, _ in effects],
            0.15,
            xerr=[below, above],
            color=COLOURS[i],
            label=name,
            error_kw={"elinewidth": 0.8},
        )
    axes.set_yticks(range(len(shown)), [label(subject_text(j.subject, with_k=True), 44) for j, _ in shown])
    axes.set_ylim(len(shown) - 0.45, -0.55)  # the first on top
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_xlabel("reduction of accuracy, points")
    figure.legend(loc="outside upper center", ncols=2)
    caption = (
        "Paired differences between four attacks with equal steps, with pointwise 95% intervals: draw "
        "known or not, started from the base model's perturbation or not. The effects are additive only if "
        "the interaction is 0."
    ) + first_of(len(shown), len(found), "subjects")
    return drawing(figure, "design", "Knowing the draw, and where the attack starts", caption)


def _effects(made: Design) -> dict[str, tuple[float, float, float]]:
    """Name -> estimate, low, high; in one order for all subjects."""
    (plain, started), (unknown, known) = made.knowing, made.starting
    named = {
        "knowing the draw, plain start": plain,
        "knowing the draw, started": started,
        "starting there, draw unknown": unknown,
        "starting there, draw known": known,
    }
    effects = {name: (effect.estimate, effect.low, effect.high) for name, effect in named.items()}
    return {**effects, "interaction": made.interaction}
