"""The examples that fell furthest: answered rightly when clean, never under the strongest attack."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustbench_coded.reports.run.images import FOLDER, picture_file, triptych
from robustbench_coded.results.run import Run
from robustbench_coded.schema.case import BudgetKey, CaseKey
from robustbench_coded.schema.controls import STANDARD, STRONGEST
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.outcomes import Cell

COUNT = 12


@dataclass(frozen=True)
class WorstExample:
    """One example under the strongest attack on a subject.

    Attributes:
        key: row of the attack that was the strongest.
        batch, slot: where it was answered.
        right, right_clean: draws with the right answer, attacked and clean.
        draws: scoring draws.
        answers: class -> draws that answered with it, the most frequent first.
        margin: mean over the draws of the true class's logit less the largest other one.
    """

    key: CaseKey
    example: int
    label: int
    batch: int
    slot: int
    right: int
    right_clean: int
    draws: int
    answers: dict[int, int]
    margin: float


def worst_examples(run: Run, count: int = COUNT) -> list[WorstExample]:
    """Under each subject's strongest attack (batch/unknown) those that fell furthest, ``count`` in all.

    Defended subjects come first; standard inference is looked at only where nothing else was run.
    """
    rows = [row for row in run.results if row.key.attack == STRONGEST and row.key.threat == WHOLE_BATCH]
    rows = [row for row in rows if row.cell is not None and row.clean is not None]
    rows = [row for row in rows if row.key.budget == _largest_budget(run)]
    defended = [row for row in rows if row.key.defence != STANDARD] or rows
    found: list[WorstExample] = []
    for i, row in enumerate(defended):
        share = (count - len(found)) // (len(defended) - i)
        found += _of_row(run, row, share)
    return found


def outcomes_of(outcomes: pd.DataFrame, key: CaseKey) -> pd.DataFrame:
    """The scoring outcomes of one row, all replicates."""
    mask = (outcomes["purpose"] == "scoring").to_numpy(dtype=bool)
    for name, value in key.as_columns().items():
        column = outcomes[name]
        same = column.isna() if value is None else (column == value).fillna(False)
        mask = mask & same.to_numpy(dtype=bool)
    return outcomes[mask]


def _largest_budget(run: Run) -> BudgetKey | None:
    budgets = [row.key.budget for row in run.results if row.key.attack == STRONGEST]
    asked = run.manifest.judged_budgets
    usable = [budget for budget in budgets if budget in asked]
    return max(usable, key=lambda budget: (usable.count(budget), budget.eps), default=None)


def _of_row(run: Run, row: CaseResult, count: int) -> list[WorstExample]:
    attacked, clean = row.cell, row.clean
    assert attacked is not None and clean is not None  # as `worst_examples` takes them
    source = row.sources[0]
    outcomes = outcomes_of(run.outcomes[run.outcomes["replicate"] == 0], source)
    place = outcomes.drop_duplicates("example").set_index("example")[["batch", "slot"]]
    margin = outcomes.groupby("example")["margin"].mean().reindex(attacked.example).to_numpy()
    fell = clean.correct.sum(axis=1) - attacked.correct.sum(axis=1)
    order = np.lexsort((attacked.example, margin, -fell))[:count]
    return [
        WorstExample(
            key=source,
            example=int(attacked.example[i]),
            label=int(attacked.label[i]),
            batch=int(place.batch[attacked.example[i]]),
            slot=int(place.slot[attacked.example[i]]),
            right=int(attacked.correct[i].sum()),
            right_clean=int(clean.correct[i].sum()),
            draws=len(attacked.draw),
            answers=answers(attacked, int(i)),
            margin=float(margin[i]),
        )
        for i in order
        if fell[i] > 0
    ]


def pictures_of(run: Run, examples: Sequence[WorstExample]) -> list[bytes | None]:
    """A PNG each: clean image, perturbation and perturbed image; None where none was kept."""
    return [_picture(run, worst) for worst in examples]


def _picture(run: Run, worst: WorstExample) -> bytes | None:
    found = picture_file(run.path, run.units_of(worst.key), worst.example)
    return None if found is None else triptych(*found[1:])


def remove_unshown(run: Run, examples: Sequence[WorstExample]) -> None:
    """Removes pictures of units none of which is shown: while a run goes on, it is unknown which will be."""
    found = [picture_file(run.path, run.units_of(worst.key), worst.example) for worst in examples]
    shown = {picture[0] for picture in found if picture is not None}
    for path in (run.path / FOLDER).glob("*.safetensors"):
        if path not in shown:
            path.unlink()


def answer_text(answered: dict[int, int]) -> str:
    """``class 3 in 8 draws, class 5 in 2``."""
    names = {answer: f"class {answer}" if answer >= 0 else "no answer" for answer in answered}
    first, *others = (f"{names[answer]} in {count}" for answer, count in answered.items())
    unit = "draw" if max(answered.values()) == 1 else "draws"
    return ", ".join([f"{first} {unit}", *others])


def answers(cell: Cell, row: int) -> dict[int, int]:
    """Class -> draws, the most frequent first, of one example of a cell."""
    counted = Counter(cell.prediction[row].tolist())
    return dict(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])))
