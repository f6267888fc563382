"""What random partitions say about rows: an attack's own, and one that combines attacks."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from robustbench_coded.schema.case import BudgetKey, CaseKey, SubjectKey
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.intervals import Interval
from robustbench_coded.statistics.outcomes import Cell
from robustbench_coded.statistics.paired import paired_difference
from robustbench_coded.statistics.repartitioned import Beside, Repartitioned, beside, repartitioned

EXAMPLES, K, P = 80, 16, 16


def table(right=0.0):
    rng = np.random.default_rng(0)
    batch = np.stack([rng.permutation(EXAMPLES) // K for _ in range(P)], axis=1)
    return Repartitioned(np.arange(EXAMPLES), batch, rng.random(batch.shape) < right)


def cell(examples=EXAMPLES):
    number = np.arange(examples)
    return Cell(number, number // K, number % 2, np.arange(1), np.full((examples, 1), 9, dtype=np.int32))


def alone(tail):
    return Interval(0.0, 0.0, 0.5 if tail == 0.0125 else 0.4)


def test_an_attack_that_can_always_be_played_bounds_the_ensemble_at_its_share_of_the_tail():
    played = Beside(cell(), playable=(table(),))
    assert played.interval(alone, 0.025).high == pytest.approx(1 - 0.0125 ** (1 / EXAMPLES))
    # One that leaves more than the ensemble's own upper end says nothing, and the tail was shared.
    assert Beside(cell(), playable=(table(0.8),)).interval(alone, 0.025).high == 0.5
    # The interval holds the estimate, whatever the partitions say; its lower end is the ensemble's own.
    found = played.interval(lambda tail: Interval(0.3, 0.2, 0.5), 0.025)
    assert found == Interval(0.3, 0.2, 0.3)


def test_an_attack_of_its_own_has_both_ends_from_its_partitions():
    found = Beside(cell(), own=table(0.5)).interval(lambda tail: Interval(0.5, 0.0, 1.0), 0.025)
    assert 0.3 < found.low < 0.5 < found.high < 0.7


def test_partitions_of_other_examples_are_left_out():
    assert beside(cell(EXAMPLES - 1), None, [table()]) is None
    assert beside(None, table(), []) is None
    assert beside(cell(), table(), []).own is not None


def test_outcomes_are_read_by_example_and_partition():
    one = table(0.5)
    number = np.arange(EXAMPLES)
    frame = pd.concat(
        pd.DataFrame(
            {
                "checkpoint": "a", "defence": "rci", "k": K, "n": 24, "threat": "batch/unknown",
                "attack": "transfer-pgd-20", "norm": "linf", "eps": 0.1, "eps_space": "pixel",
                "step_size": None, "purpose": "partition", "example": number, "label": 1,
                "batch": one.batch[:, p], "draw": p + 1, "prediction": one.correct[:, p].astype(int),
            }
        )
        for p in range(P)
    )  # fmt: skip
    (found,) = repartitioned(frame.sample(frac=1, random_state=0)).values()
    assert (found.batch == one.batch).all() and (found.correct == one.correct).all()
    missing = frame[(frame.example != 5) | (frame.draw != 3)]
    (found,) = repartitioned(missing).values()
    assert 5 not in found.example and len(found.example) == EXAMPLES - 1
    assert repartitioned(frame.assign(purpose="scoring")) == {}


def test_partitions_are_about_the_outcomes_they_stand_beside():
    key = CaseKey.of(
        SubjectKey("a", "rci", K, 24), WHOLE_BATCH, "ensemble", BudgetKey("linf", 0.1, "pixel"), None
    )
    mine = cell()
    row = CaseResult(key, mine, replace(mine, prediction=mine.label[:, None]), EXAMPLES, True, True, True, ())
    held = replace(row, partitions=Beside(mine, playable=(table(),)))
    assert held.interval().high < 0.06 < row.interval().high
    # The same row as if nobody had attacked it.
    assert replace(held, cell=row.clean).interval() == replace(row, cell=row.clean).interval()
    base = CaseResult(
        key._replace(defence="standard", k=None, n=None), mine, None, EXAMPLES, False, False, True, ()
    )
    assert paired_difference(held, base).high < 0.06 < paired_difference(row, base).high
    assert paired_difference(replace(held, cell=row.clean), base).high == 1


def test_the_difference_to_a_base_model_has_both_ends_from_partitions():
    key = CaseKey.of(
        SubjectKey("a", "rci", K, 24), WHOLE_BATCH, "clean", BudgetKey("linf", 0.0, "pixel"), None
    )
    mine = cell()
    right = replace(mine, prediction=mine.label[:, None])
    row = CaseResult(key, mine, None, EXAMPLES, True, True, True, ())
    base = CaseResult(key, right, None, EXAMPLES, False, False, True, ())
    known = replace(row, partitions=Beside(mine, own=table(0.9)))
    # The scoring draws are all wrong, nine of ten answers in partitions right: the interval holds both.
    found = paired_difference(base, known)
    assert found.estimate == found.high == 1 and found.low < 0.1 < paired_difference(base, row).low
    mirrored = paired_difference(known, base)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
