"""Sets made here beside published ones of the same name."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import stdtrit

from robustbench_coded.schema.case import SubjectKey
from robustbench_coded.schema.words import STANDARD
from robustbench_coded.shift.answers import Answers, SetFacts, ShiftFacts, ShiftRun
from robustbench_coded.shift.report import (
    ALL,
    MADE,
    PUBLISHED,
    agreement_sentence,
    agreement_table,
    agreements,
)


def run_of(right):
    """A run of sets {(collection, name, severity): right answers [examples]}; pixel means are severities."""
    sets = {
        SetFacts(*key, 0, len(of), sha256=str(key), mean=float(key[2]), deviation=2.0, psnr=None): of
        for key, of in right.items()
    }  # fmt: skip
    facts = ShiftFacts(tuple(sets), k=10, limit=None, subset=None, seed=0, baseline="erm")
    subject = SubjectKey("erm", STANDARD, None, None)
    answers = Answers(
        subject, {one: np.asarray(of, bool)[:, None] for one, of in sets.items()}, clustered=False, k=10
    )
    return ShiftRun(None, facts, SimpleNamespace(), (answers,), ())


def shares(*counts, of=40):
    return [np.arange(of) < count for count in counts]


def test_the_difference_is_that_of_two_independent_means():
    ours, theirs = shares(10, 30)
    found = agreements(run_of({(MADE, "fog", 3): ours, (PUBLISHED, "fog", 3): theirs}))
    (fog,) = found
    variance = 0.25 * 0.75 * 40 / 39 / 40
    reach = stdtrit(39, 0.975) * np.sqrt(2 * variance)
    assert fog.difference == pytest.approx((0.5, 0.5 - reach, 0.5 + reach))
    assert fog.accuracies == (0.25, 0.75) and fog.means == (3, 3)
    (line,) = agreement_table(found).rows
    assert line[0] == "fog" and line[3] == "25.0 / 75.0" and line[4].startswith("+50.0 [")
    assert "The interval excludes 0 for fog." in agreement_sentence(found)


def test_only_severities_that_both_have_are_compared():
    a, b, c, d, e = shares(10, 20, 10, 40, 12)
    found = agreements(
        run_of(
            {
                (MADE, "clean", 0): d, (MADE, "fog", 1): a, (MADE, "fog", 2): b, (MADE, "snow", 1): e,
                (PUBLISHED, "fog", 2): b, (PUBLISHED, "frost", 1): d, (PUBLISHED, "snow", 1): c,
            }
        )
    )  # fmt: skip
    assert [one.corruption for one in found] == ["fog", "snow", ALL]
    assert [one.difference.value for one in found] == pytest.approx([0, -0.05, -0.025])
    assert found[0].means == (2, 2)
    said = agreement_sentence(found)
    assert "-2.5 [" in said and "at most -5.0 [" in said and "(snow)" in said
    assert "No interval excludes 0" in said


@pytest.mark.parametrize("only", [MADE, PUBLISHED, "CIFAR-10.1"])
def test_without_both_there_is_nothing_to_compare(only):
    assert agreements(run_of({(only, "fog", 3): np.ones(10, bool)})) == []
