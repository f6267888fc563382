"""The 2 x 2 design as a table: draw known or not, started from the base model's perturbation or not."""

from collections.abc import Sequence

from robustbench_coded.reports.text.formatting import budget_text, gain_text, inference_text, percent
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.results.judgements import Judgement

DESIGN_TITLE = "Knowing the draw, and where the attack starts"
DESIGN_LEGEND = (
    "Four attacks with equal steps, on the examples and draws that all four have; differences are paired, in "
    "points, with pointwise 95% intervals. The interaction is how much more knowing the draw takes from the "
    "plain start than from the other. The two effects add up only if it is 0."
)


def design_text_table(judgements: Sequence[Judgement]) -> TextTable:
    """Three rows for each judgement with a design: either start, and what the start takes."""
    heads = ("Checkpoint", "Inference", "Budget", "Start", "Draw unknown", "Draw known", "Knowing takes")
    rows = []
    for judgement in judgements:
        made = judgement.design
        if made is None:
            continue
        subject = judgement.subject
        about = (subject.checkpoint, inference_text(subject, with_k=True), budget_text(judgement.budget))
        names = (made.cells[0].key.attack, made.cells[2].key.attack)
        for attack, effect in zip(names, made.knowing, strict=True):
            cells = (percent(effect.first), percent(effect.second))
            rows.append((*about, attack, *cells, gain_text(effect.estimate, effect.low, effect.high)))
        unknown, known = (gain_text(effect.estimate, effect.low, effect.high) for effect in made.starting)
        rows.append(
            (*about, "the start takes", unknown, known, f"interaction {gain_text(*made.interaction)}")
        )
    return TextTable(heads, tuple(rows), frozenset(heads[4:]))
