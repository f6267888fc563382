"""One attacker out of several attacks: the strongest attack, and the ensemble.

A randomised defence misses now and then whatever the attack does. Letting every attack try once and
taking any miss for a break counts those misses as the attacks' doing: under pure noise of 10% the minimum
over a dozen attacks falls to 0.9^12, 28%. So attacks are chosen on selection draws and scored on scoring
draws that the choice has not seen. An attacker who knows the draw may choose by it: that is no bias but the
knowledge he is granted.

Choosing has the opposite fault, too: between attacks that differ by nothing but noise, a choice per example
passes over the best attack now and then, and would make the ensemble look weaker than one of its members. So
the choice is first tried within the selection draws, made on one half and scored on the other; where it does
not beat the strongest attack there, every example gets the strongest.

Where an answer depends on the co-batched inputs, one attacker submits one batch: he chooses an attack per
batch (`by_batch`), and all outcomes of the batch are that attack's. Chosen per example, the outcomes would
come from batches that cannot be submitted at once: a defence that saves one half of each batch from one
attack and the other half from another would seem to save none. Where inputs are answered independently, or
each is the victim of a batch of its own, he chooses per example.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robustbench_coded.judge.outcomes import Cell
from robustbench_coded.schema.case import Case


@dataclass(frozen=True)
class PlayableAttack:
    """An attack that one attacker has: its answers on the draws to choose by and on the draws to score on."""

    case: Case
    selection: Cell  # the scoring cell where nothing is random to the attacker
    scoring: Cell


def aligned(candidates: Sequence[PlayableAttack]) -> list[PlayableAttack]:
    """The same candidates on the examples and draws that all of them have."""
    if not candidates:
        return []
    cells = [cell for candidate in candidates for cell in (candidate.selection, candidate.scoring)]
    example = common([cell.example for cell in cells])
    selected = common([candidate.selection.draw for candidate in candidates])
    scored = common([candidate.scoring.draw for candidate in candidates])
    return [
        replace(
            candidate,
            selection=candidate.selection.at_examples(example).at_draws(selected),
            scoring=candidate.scoring.at_examples(example).at_draws(scored),
        )
        for candidate in candidates
    ]


def strongest(candidates: Sequence[PlayableAttack]) -> int:
    """Index of the aligned candidate with the lowest accuracy on selection draws; the first one of a tie."""
    return int(np.argmin([candidate.selection.correct.mean() for candidate in candidates]))


def ensemble(candidates: Sequence[PlayableAttack], best: int, *, by_batch: bool) -> Cell:
    """Scoring outcomes of the attack that is lowest on the selection draws of each example, or of each batch.

    Ties go to ``best``, the strongest attack, and so does everything where choosing does not pay.
    """
    right = np.stack([candidate.selection.correct for candidate in candidates])
    unit = _units(candidates, by_batch)
    if _choice_pays(right, unit, best):
        return _of_chosen(candidates, _lowest(right, unit, best))
    return candidates[best].scoring


def worst_case(candidates: Sequence[PlayableAttack], *, by_batch: bool) -> Cell:
    """Scoring outcomes of the attack that leaves least of each example, or batch, in each draw.

    The ensemble of an attacker to whom nothing is random: the defence is deterministic or he knows its draw.
    The first attack of a tie counts.
    """
    correct = np.stack([candidate.scoring.correct for candidate in candidates])
    prediction = np.stack([candidate.scoring.prediction for candidate in candidates])
    winner = _totals(correct, _units(candidates, by_batch)).argmin(axis=0)
    chosen = np.take_along_axis(prediction, winner[None], axis=0)[0]
    return replace(candidates[0].scoring, prediction=chosen)


def common(sets: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Increasing values that all of the increasing arrays contain."""
    shared = sets[0]
    for values in sets[1:]:
        if len(values) != len(shared) or (values != shared).any():
            shared = np.intersect1d(shared, values, assume_unique=True)
    return shared


def _units(candidates: Sequence[PlayableAttack], by_batch: bool) -> NDArray[np.int64]:
    """[examples], what one attack is chosen for: the batch, or the example."""
    cell = candidates[0].scoring
    return np.unique(cell.batch if by_batch else cell.example, return_inverse=True)[1]


def _totals(counts: NDArray[np.generic], unit: NDArray[np.int64]) -> NDArray[np.int64]:
    """[attacks, examples, ...] -> the same shape, each example bearing the sum over its unit."""
    totals = np.zeros((counts.shape[0], unit.max() + 1, *counts.shape[2:]), dtype=np.int64)
    for total, count in zip(totals, counts):
        np.add.at(total, unit, count)
    return totals[:, unit]


def _choice_pays(right: NDArray[np.bool_], unit: NDArray[np.int64], best: int) -> bool:
    """True if choosing on one half of the selection draws, scored on the other, beats the attack ``best``."""
    examples, draws = right.shape[1:]
    halves = (slice(0, draws // 2), slice(draws // 2, draws))
    if draws < 2:
        return False
    rows = np.arange(examples)
    chosen = [
        right[:, :, scored][_lowest(right[:, :, seen], unit, best), rows].mean()
        for seen, scored in (halves, halves[::-1])
    ]
    return float(np.mean(chosen)) < float(right[best].mean())


def _lowest(right: NDArray[np.bool_], unit: NDArray[np.int64], best: int) -> NDArray[np.int64]:
    """[attacks, examples, draws] -> [examples], the attack with fewest right answers; ties go to ``best``."""
    counts = _totals(right.sum(axis=2), unit)
    return np.where(counts[best] == counts.min(axis=0), best, counts.argmin(axis=0))


def _of_chosen(candidates: Sequence[PlayableAttack], chosen: NDArray[np.int64]) -> Cell:
    prediction = np.stack([candidate.scoring.prediction for candidate in candidates])
    rows = np.arange(len(chosen))
    return replace(candidates[0].scoring, prediction=prediction[chosen, rows])
