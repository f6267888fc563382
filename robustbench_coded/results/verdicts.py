"""verdicts.csv: one line for each subject under one threat model and budget."""

import math
from collections.abc import Sequence

import pandas as pd

from robustbench_coded.results.judgements import Judgement
from robustbench_coded.statistics.intervals import Interval
from robustbench_coded.statistics.paired import Difference
from robustbench_coded.statistics.summary import DIGITS

COLUMNS = (
    "checkpoint", "defence", "k", "n", "threat", "norm", "eps", "eps_space", "word", "accuracy", "ci_low",
    "ci_high", "base_accuracy", "gain", "gain_low", "gain_high", "clean_accuracy", "open_checks", "reason",
)  # fmt: skip


def verdict_frame(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """The verdicts as a frame; accuracies and gains are fractions, null where there is nothing to compare.

    ``base_accuracy`` is that of the base model's ensemble on the examples that ``gain`` compares.
    """
    lines = [_line(judgement) for judgement in judgements]
    return pd.DataFrame(lines, columns=list(COLUMNS)).astype({"k": "Int64", "n": "Int64"})


def _line(judgement: Judgement) -> dict[str, object]:
    verdict, key = judgement.verdict, judgement.key.as_columns()
    return {
        **{name: key[name] for name in COLUMNS if name in key},
        "word": str(verdict.word),
        **_ends(verdict.accuracy, "accuracy", "ci_low", "ci_high"),
        "base_accuracy": math.nan if verdict.gain is None else round(verdict.gain.second, DIGITS),
        **_ends(verdict.gain, "gain", "gain_low", "gain_high"),
        "clean_accuracy": math.nan if verdict.clean is None else round(verdict.clean.estimate, DIGITS),
        "open_checks": ";".join(verdict.open_checks),
        "reason": verdict.reason,
    }


def _ends(figure: Interval | Difference | None, estimate: str, low: str, high: str) -> dict[str, float]:
    """A figure and the ends of its interval under these names."""
    if figure is None:
        return dict.fromkeys((estimate, low, high), math.nan)
    ends = {estimate: figure.estimate, low: figure.low, high: figure.high}
    return {name: round(value, DIGITS) for name, value in ends.items()}
