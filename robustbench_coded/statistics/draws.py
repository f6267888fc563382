"""Accuracy over several draws of a defence's randomness, in the four ways people ask for it.

accuracy(cell), accuracy_majority(cell), accuracy_every_draw(cell), accuracy_submissions(cell, M)
"""

import numpy as np
from numpy.typing import NDArray

from robustbench_coded.statistics.outcomes import Cell


def accuracy(cell: Cell) -> float:
    """Mean over examples and draws: the headline."""
    return float(cell.correct.mean())


def accuracy_majority(cell: Cell) -> float:
    """How often the class that most draws predict is the label; of tied classes the lowest index counts."""
    return float((plurality(cell.prediction) == cell.label).mean())


def accuracy_every_draw(cell: Cell) -> float:
    """Share of examples that are right in every draw; it falls with the number of draws."""
    return float(cell.correct.all(axis=1).mean())


def accuracy_submissions(cell: Cell, submissions: int) -> float:
    """Share of examples that survive an attacker who submits each so many times, to a fresh draw each time.

    With s right answers in R draws, C(s, M) / C(R, M) is the unbiased estimate for M tries: the share of the
    M-subsets of the draws in which every answer is right.

    Raises:
        ValueError: fewer draws than submissions.
    """
    draws = len(cell.draw)
    if not 1 <= submissions <= draws:
        raise ValueError(f"expected 1 <= submissions <= {draws} draws, got {submissions}")
    tries = np.arange(submissions)
    remaining = np.maximum(cell.correct.sum(axis=1)[:, None] - tries, 0)
    return float((remaining / (draws - tries)).prod(axis=1).mean())


def plurality(prediction: NDArray[np.int32]) -> NDArray[np.int32]:
    """[examples, draws] -> [examples], the most frequent class; of tied classes the lowest index."""
    ordered = np.sort(prediction, axis=1)
    votes = np.stack([(ordered == column[:, None]).sum(axis=1) for column in ordered.T], axis=1)
    return ordered[np.arange(len(ordered)), votes.argmax(axis=1)]
