"""All settings on all tables over seeds, compared with ERM seed by seed, and the report."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robustbench_coded.errors import InputError
from robustbench_coded.reports.render.sections import Bullets, Legend, Section
from robustbench_coded.reports.text.formatting import TextTable
from robustbench_coded.reports.write import write_plain
from robustbench_coded.statistics import intervals, judge
from robustbench_coded.studies.over_seeds import TAIL, Records, spread
from robustbench_coded.tabular import train

RUNS = "runs.csv"


class Run(NamedTuple):
    """One network."""

    table: str
    setting: str
    seed: int
    steps: int
    accuracy: float
    loss: float


class Comparison(NamedTuple):
    """A setting less ERM on one table, over seeds: in accuracy, a fraction, and in loss, nats.

    Attributes:
        accuracy, loss: means of the setting itself.
        gain, low, high: of accuracy, at the usual level.
        settled: whether the gain's interval leaves out 0 after Holm's correction for all comparisons.
        loss_gain, loss_low, loss_high: of the loss.
    """

    table: str
    setting: str
    seeds: int
    accuracy: float
    loss: float
    gain: float
    low: float
    high: float
    settled: bool
    loss_gain: float
    loss_low: float
    loss_high: float


def run_all(
    folder: Path,
    tables: Sequence[str],
    *,
    seeds: int,
    steps: int = train.STEPS,
    said: Callable[[str], None] = lambda text: None,
) -> list[Run]:
    """Trains what ``runs.csv`` of the folder does not hold yet; returns all runs asked for.

    Raises:
        InputError: an unknown table, or a file that is no list of runs.
    """
    if seeds < 2:
        raise InputError(f"--seeds {seeds}: an interval needs 2 or more")
    records = Records(folder / RUNS, Run)
    done = {run[:4]: run for run in records.rows}
    wanted = []
    for table in tables:
        for seed in range(seeds):
            split = train.split_of(table, seed)
            keys = {setting: (table, setting.name, seed, steps) for setting in train.SETTINGS}
            new = [
                Run(*key, *train.trained(setting, split, seed, steps=steps))
                for setting, key in keys.items()
                if key not in done
            ]
            records.add(new)
            done |= {run[:4]: run for run in new}
            wanted += [done[key] for key in keys.values()]
        said(f"{table}: {seeds} seeds, {len(train.SETTINGS)} settings")
    return wanted


def comparisons(runs: Sequence[Run]) -> list[Comparison]:
    """Every setting on every table beside ERM, and ERM itself with no gain."""
    by_key = {(run.table, run.setting, run.seed): run for run in runs}
    tables = list(dict.fromkeys(run.table for run in runs))
    settings = list(dict.fromkeys(run.setting for run in runs))
    seeds = sorted({run.seed for run in runs})
    gains, losses = {}, {}
    for table in tables:
        for setting in settings:
            pairs = [(by_key[table, setting, seed], by_key[table, train.BASELINE, seed]) for seed in seeds]
            gains[table, setting] = np.array([one.accuracy - base.accuracy for one, base in pairs])
            losses[table, setting] = np.array([one.loss - base.loss for one, base in pairs])

    def of_gain(table: str, setting: str, tail: float) -> tuple[float, float]:
        low, high = _ends(gains[table, setting], tail)
        # However alike two trainings are, they may differ where 0 of the table's rows showed it.
        reach = max((high - low) / 2, intervals.clopper_pearson(0, train.SETS[table], tail)[1])
        middle = (low + high) / 2
        return middle - reach, middle + reach

    asked = [key for key in gains if key[1] != train.BASELINE]
    of_gains = [partial(of_gain, *key) for key in asked]
    answers = judge.step_down(of_gains, lambda ends: ends[0] > 0 or ends[1] < 0, TAIL)
    settled = {key: answer.settled for key, answer in zip(asked, answers, strict=True)}
    return [
        Comparison(
            table, setting, len(seeds),
            float(np.mean([by_key[table, setting, seed].accuracy for seed in seeds])),
            float(np.mean([by_key[table, setting, seed].loss for seed in seeds])),
            float(gains[table, setting].mean()), *of_gain(table, setting, TAIL),
            settled.get((table, setting), False),
            float(losses[table, setting].mean()), *_ends(losses[table, setting], TAIL),
        )
        for table, setting in gains
    ]  # fmt: skip


def _ends(values: np.ndarray, tail: float) -> tuple[float, float]:
    found = spread(values, tail=tail, overlap=train.TEST_SHARE / (1 - train.TEST_SHARE))
    assert found.low is not None and found.high is not None
    return found.low, found.high


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
            "" if one.setting == train.BASELINE else _points(one),
            "yes" if one.settled else "",
            f"{one.loss:.4f}",
            ""
            if one.setting == train.BASELINE
            else f"{one.loss_gain:+.4f} [{one.loss_low:+.4f}, {one.loss_high:+.4f}]",
        )
        for one in found
    )
    return TextTable(heads, lines, frozenset(("Accuracy", "Less erm", "Loss", "Loss less erm")))


def _points(one: Comparison) -> str:
    return f"{100 * one.gain:+.2f} [{100 * one.low:+.2f}, {100 * one.high:+.2f}]"


def _facts(found: Sequence[Comparison], steps: int) -> tuple[str, ...]:
    shortened = "" if steps == train.STEPS else f" (shortened from {train.STEPS})"
    return (
        f"{found[0].seeds} seeds: each splits the rows anew, two thirds to train on, stratified by class, "
        "and begins with other weights. All trainings of a seed have the same split, weights and batches.",
        f"A network of two hidden layers of {train.WIDTH} units on standardised features; on digit-lines a "
        f"Transformer encoder of {train.LAYERS} layers, width {train.TRANSFORMER_WIDTH}, {train.HEADS} "
        "heads, without dropout.",
        f"AdamW, learning rate 0.001, {steps} batches of {train.BATCH} rows{shortened}, weight decay as "
        "AdamW has it.",
        "Coded: equation 7 of arXiv 2510.00253 around the whole network, N from K to 1.5 K in the course of "
        "training. Mixup: arXiv 1710.09412.",
        "All settings were fixed before anything was run, and all are shown: none was chosen by its results, "
        "and none was tuned. A tuned setting of any of them may do better.",
        "Breast cancer, wine and digits as scikit-learn bundles them. Digits are 64 numbers in a row, and "
        "digit-lines the same images read line by line: sequences of 8 tokens with 8 numbers each.",
    )
