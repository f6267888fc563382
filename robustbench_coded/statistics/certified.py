"""Certified accuracy beside the attacks: its interval, and attacks that did what can't be done."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from robustbench_coded.runs.certificates import Certificate
from robustbench_coded.schema.case import CaseKey
from robustbench_coded.schema.words import NAIVE_MIN
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.intervals import TAIL, Interval, accuracy_interval, clopper_pearson

FALSE_ALARM = 1e-6  # that any of a certificate's comparisons contradicts a bound that holds


class Contradiction(NamedTuple):
    """An example that an attack brought below its bound."""

    attack: CaseKey
    example: int
    bound: str


def certified_interval(certificate: Certificate, *, batch_dependent: bool) -> Interval:
    """The mean of what is certified, with a 95% interval over examples (batches, where these are answered as
    one). Probabilities count as parts of examples.
    """
    right = np.array(certificate.right, dtype=np.float64)
    mean = float(right.mean())
    if certificate.chance:
        return Interval(mean, *clopper_pearson(mean * len(right), len(right), TAIL))
    batch = np.array(certificate.batch, dtype=np.int64)
    return accuracy_interval(right > 0, batch, batch_dependent=batch_dependent)


def contradictions(certificate: Certificate, results: Iterable[CaseResult]) -> Iterator[Contradiction]:
    """Every attack's answers, and the clean ones, against a certificate.

    A certain bound is contradicted by one wrong answer in the same draw. Probabilities are contradicted by
    fewer right answers than they leave a chance of ``FALSE_ALARM``, split over examples and attacks. The row
    `naive-min` is left out: it mixes the draws of several attacks.
    """
    met = [r for r in results if r.cell is not None and _concerns(certificate, r.key)]
    for result in met:
        cell = result.cell
        assert cell is not None
        rows, examples = _matching(certificate.example, cell.example)
        if not len(rows):
            continue
        bound = np.array(certificate.right, dtype=np.float64)[rows]
        correct = cell.correct[examples]
        if certificate.chance:
            chance = bdtr(correct.sum(1), correct.shape[1], bound[:, 0])
            wrong = chance < FALSE_ALARM / (len(certificate.example) * len(met))
            said = [f"right with probability {p:.4g} at least" for p in bound[:, 0]]
        else:
            columns, draws = _matching(certificate.draw, cell.draw)
            if not len(columns):
                continue
            wrong = ((bound[:, columns] > 0) & ~correct[:, draws]).any(1)
            said = ["right whatever an attack does"] * len(rows)
        for i in np.flatnonzero(wrong):
            yield Contradiction(result.key, int(certificate.example[rows[i]]), said[i])


def _concerns(certificate: Certificate, key: CaseKey) -> bool:
    if key.attack == NAIVE_MIN or key.subject != certificate.subject or not certificate.covers(key.threat):
        return False
    return key.eps == 0 or key.budget == certificate.budget


def _matching(
    ours: tuple[int, ...], theirs: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of what both have."""
    _, mine, other = np.intersect1d(np.array(ours, dtype=np.int64), theirs, return_indices=True)
    return mine, other
