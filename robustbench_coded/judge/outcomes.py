"""Outcome frames as arrays, accuracies over their draws, and the floor that uninformative inputs leave.

The floor is what a defence can keep without looking at its inputs. Clean inputs that are exchanged at random
among the examples leave chance: about 10% of ten even classes, 1% of a hundred, half of two. Where classes
have unequal shares, the most frequent class in place of every answer may keep more. The larger of the two is
the floor. An answer that rejects everything keeps nothing. An attacked accuracy at chance level is worth no
more than an answer that needs no computation, however many classes there are.

Where the clean answers themselves are no better than the best constant one (guesses, rejections, a single
class), no attack is needed, and none can show much: what is left may be chance to the last bit.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import bdtrc

from robustbench_coded.schema.case import KEY_COLUMNS, Case

DIGITS = 6  # of accuracies, so that neither a file nor a threshold depends on the last bits of a sum
_NAMES = ("checkpoint", "defence", "threat", "attack", "norm", "eps_space")


@dataclass(frozen=True)
class Cell:
    """Answers of one defence to one attack's inputs: the examples for which every draw was answered."""

    example: NDArray[np.int64]  # [examples], increasing
    batch: NDArray[np.int64]  # [examples]
    label: NDArray[np.int64]  # [examples]
    draw: NDArray[np.int64]  # [draws], increasing
    prediction: NDArray[np.int32]  # [examples, draws]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """[examples, draws]"""
        return self.prediction == self.label[:, None]

    def at_examples(self, example: NDArray[np.int64]) -> "Cell":
        """The part for ``example``, increasing ids that this cell holds."""
        if len(example) == len(self.example):
            return self
        rows = np.searchsorted(self.example, example)
        return Cell(self.example[rows], self.batch[rows], self.label[rows], self.draw, self.prediction[rows])

    def at_draws(self, draw: NDArray[np.int64]) -> "Cell":
        """The part for ``draw``, increasing draws that this cell holds."""
        columns = np.searchsorted(self.draw, draw)
        return Cell(self.example, self.batch, self.label, draw, self.prediction[:, columns])


def case_keys(frame: pd.DataFrame) -> list[Case]:
    """The case of every row of a small frame with key columns.

    Raises:
        ValueError: a threat model that this version does not know.
    """
    columns: list[Iterable[object]] = []
    for name in KEY_COLUMNS:
        values = frame[name]
        if name in _NAMES:
            columns.append(values.astype(object).where(values.notna(), "").map(str))
        elif name == "eps":
            columns.append(values.map(float))
        else:
            kind = float if name == "step_size" else int
            columns.append([None if pd.isna(value) else kind(value) for value in values])
    return [Case.from_columns(dict(zip(KEY_COLUMNS, values))) for values in zip(*columns)]


def cells(outcomes: pd.DataFrame) -> dict[tuple[Case, str], Cell]:
    """Sorts an outcome frame into cells, by case and purpose (``selection`` or ``scoring``).

    Args:
        outcomes: columns as in docs/run-folder.md.
    """
    if outcomes.empty:
        return {}
    code = np.zeros(len(outcomes), dtype=np.int64)
    for name in (*KEY_COLUMNS, "purpose"):
        values, levels = pd.factorize(outcomes[name])
        # -1 stands for null and becomes a level of its own.
        code = code * (len(levels) + 1) + values + 1
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    firsts = outcomes.iloc[order[starts]]
    keys = zip(case_keys(firsts), firsts["purpose"].map(str))
    column = {name: outcomes[name].to_numpy() for name in ("example", "batch", "label", "draw", "prediction")}
    return {
        key: _cell({name: values[rows] for name, values in column.items()})
        for key, rows in zip(keys, np.split(order, starts[1:]))
    }


def _cell(column: dict[str, NDArray[np.integer]]) -> Cell:
    example, first, row = np.unique(column["example"], return_index=True, return_inverse=True)
    draw, place = np.unique(column["draw"], return_inverse=True)
    answers = np.bincount(row, minlength=len(example))
    prediction = np.full((len(example), len(draw)), -1, dtype=np.int32)
    prediction[row, place] = column["prediction"]
    whole = answers == len(draw)
    first = first[whole]
    return Cell(
        example[whole].astype(np.int64),
        column["batch"][first].astype(np.int64),
        column["label"][first].astype(np.int64),
        draw.astype(np.int64),
        prediction[whole],
    )


def accuracy(cell: Cell) -> float:
    """Mean over examples and draws: the headline."""
    return float(cell.correct.mean())


def accuracy_majority(cell: Cell) -> float:
    """Accuracy of the majority vote over draws; ties go to the lowest class index."""
    return float((plurality(cell.prediction) == cell.label).mean())


def majorities(cell: Cell, votes: int) -> Cell | None:
    """The cell of majorities of so many draws, each draw in one of them; None where there are fewer draws."""
    count = len(cell.draw) // votes
    if not count:
        return None
    apart = np.split(cell.prediction[:, : count * votes], count, axis=1)
    return replace(cell, draw=np.arange(count), prediction=np.stack([*map(plurality, apart)], axis=1))


def accuracy_every_draw(cell: Cell) -> float:
    """Share of examples that are right in every draw; it falls with the number of draws."""
    return float(cell.correct.all(axis=1).mean())


def plurality(prediction: NDArray[np.int32]) -> NDArray[np.int32]:
    """[examples, draws] -> [examples], the most frequent class; of tied classes the lowest index."""
    ordered = np.sort(prediction, axis=1)
    votes = np.stack([(ordered == column[:, None]).sum(axis=1) for column in ordered.T], axis=1)
    return ordered[np.arange(len(ordered)), votes.argmax(axis=1)]


SHARE_OF_CLEAN = 0.05
NEAR_CONSTANT = 0.05
BY_CHANCE = 0.001  # less likely than that, classes have unequal shares
NEARLY_ALL = 0.9  # who answers so many clean inputs rightly is no constant, however uneven the classes


def floor_of(clean: Cell) -> float:
    """Mean over pairs of two examples of how often the answer to the one is the label of the other; or, if
    more, of how often the most frequent class would be in place of every answer that is no rejection.

    Of classes with equal shares one is the most frequent, too, by chance. The second counts only where that
    is less likely than `BY_CHANCE`.
    """
    examples, draws = clean.prediction.shape
    classes = int(max(clean.prediction.max(), clean.label.max())) + 1
    answers = np.bincount(clean.prediction[clean.prediction >= 0], minlength=classes)
    labels = np.bincount(clean.label, minlength=classes)
    most, present = int(labels.max()), int(np.count_nonzero(labels))
    right = int(answers @ labels) - int(clean.correct.sum())
    if present * bdtrc(most - 1, examples, 1 / present) < BY_CHANCE:
        right = max(right, int(answers[labels > 0].sum()) * (most - 1))
    return float(right) / (draws * examples * max(examples - 1, 1))


def broken_below(clean: Cell | None) -> float:
    """The accuracy up to which a defence is broken; without clean outcomes the smallest it can be, 0."""
    if clean is None:
        return 0.0
    return floor_of(clean) + SHARE_OF_CLEAN * float(clean.correct.mean())


def uninformative(clean: Cell, high: float) -> bool:
    """True if there is one answer to all clean inputs, or the clean accuracy is near what such a one keeps.

    Near, or below: certainly within 5 points of the largest class, or half as much again where there are many
    classes. Not where all are of one class, nor where nearly all clean inputs may be answered rightly.

    Args:
        high: upper end of the clean accuracy.
    """
    if not np.ptp(clean.label) or high >= NEARLY_ALL:
        return False
    if np.ptp(clean.prediction) == 0:
        return True
    share = float(np.bincount(clean.label).max()) / len(clean.label)
    return high <= share + min(NEAR_CONSTANT, share / 2)
