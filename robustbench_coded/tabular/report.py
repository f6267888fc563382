"""report.md and report.html of the study on tables and sequences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustbench_coded.reports.render.plain import write_plain
from robustbench_coded.reports.render.sections import Bullets, Legend, Section
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.tabular.study import Comparison
from robustbench_coded.tabular.train import BASELINE, BATCH, STEPS, WIDTH
from robustbench_coded.tabular.transformer import HEADS, LAYERS
from robustbench_coded.tabular.transformer import WIDTH as TRANSFORMER_WIDTH

LEGEND = (
    "Accuracies in percent, means over seeds. Less erm: percentage points with 95% intervals, paired over "
    "seeds and corrected for the overlap of the splits (Nadeau and Bengio, 2003), and never narrower than "
    "what 0 of the data's rows leaves. Settled: the interval leaves out 0 after Holm's correction for all "
    "comparisons of accuracy in this report. Loss: cross-entropy in nats, lower is better; its differences "
    "are not corrected for their number."
)


def write_tabular_report(folder: Path, found: Sequence[Comparison], steps: int) -> None:
    """Writes report.md and report.html."""
    sections = [
        Section("table", "Beside ERM", (_table(found), Legend(LEGEND))),
        Section("measured", "How this was measured", (Bullets(_facts(found, steps)),)),
    ]
    write_plain(folder, "Coded-smoothing on tables and sequences", answer(found), sections)


def answer(found: Sequence[Comparison]) -> list[str]:
    """Whether the module helps here, in sentences that follow from the intervals."""
    coded = [one for one in found if one.setting.startswith("coded")]
    better = [one for one in coded if one.settled and one.gain > 0]
    worse = [one for one in coded if one.settled and one.gain < 0]
    said = [
        f"Of {len(coded)} comparisons of coded training with ERM, accuracy is higher in {len(better)} and "
        f"lower in {len(worse)}; in {len(coded) - len(better) - len(worse)} no difference was found."
    ]
    for name, chosen in (("Higher", better), ("Lower", worse)):
        if chosen:
            said.append(
                f"{name}: {'; '.join(f'{one.setting} on {one.table} {_points(one)}' for one in chosen)}."
            )
    others = [one for one in found if one.settled and one.gain > 0 and not one.setting.startswith("coded")]
    named = "; ".join(f"{one.setting} on {one.table} {_points(one)}" for one in others)
    said.append(f"Other regularisers that beat ERM: {named or 'none'}.")
    widest = max(coded, key=lambda one: one.high - one.low)
    said.append(
        f"The widest of these intervals is {100 * (widest.high - widest.low):.1f} points "
        f"({widest.setting} on {widest.table}): smaller effects than that can't be excluded there."
    )
    return said


def _table(found: Sequence[Comparison]) -> TextTable:
    heads = ("Data", "Training", "Accuracy", "Less erm", "Settled", "Loss", "Loss less erm")
    lines = tuple(
        (
            one.table,
            one.setting,
            f"{100 * one.accuracy:.2f}",
            "" if one.setting == BASELINE else _points(one),
            "yes" if one.settled else "",
            f"{one.loss:.4f}",
            ""
            if one.setting == BASELINE
            else f"{one.loss_gain:+.4f} [{one.loss_low:+.4f}, {one.loss_high:+.4f}]",
        )
        for one in found
    )
    return TextTable(heads, lines, frozenset(("Accuracy", "Less erm", "Loss", "Loss less erm")))


def _points(one: Comparison) -> str:
    return f"{100 * one.gain:+.2f} [{100 * one.low:+.2f}, {100 * one.high:+.2f}]"


def _facts(found: Sequence[Comparison], steps: int) -> tuple[str, ...]:
    shortened = "" if steps == STEPS else f" (shortened from {STEPS})"
    return (
        f"{found[0].seeds} seeds: each splits the rows anew, two thirds to train on, stratified by class, "
        "and begins with other weights. All trainings of a seed have the same split, weights and batches.",
        f"A network of two hidden layers of {WIDTH} units on standardised features; on digit-lines a "
        f"Transformer encoder of {LAYERS} layers, width {TRANSFORMER_WIDTH}, {HEADS} heads, without dropout.",
        f"AdamW, learning rate 0.001, {steps} batches of {BATCH} rows{shortened}, weight decay as AdamW has "
        "it.",
        "Coded: equation 7 of arXiv 2510.00253 around the whole network, N from K to 1.5 K in the course of "
        "training. Mixup: arXiv 1710.09412.",
        "All settings were fixed before anything was run, and all are shown: none was chosen by its results, "
        "and none was tuned. A tuned setting of any of them may do better.",
        "Breast cancer, wine and digits as scikit-learn bundles them. Digits are 64 numbers in a row, and "
        "digit-lines the same images read line by line: sequences of 8 tokens with 8 numbers each.",
    )
