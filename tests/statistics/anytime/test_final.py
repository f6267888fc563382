"""Which words nothing can change: attacks take right answers away, from either side."""

from types import SimpleNamespace

import pytest

from robustbench_coded.schema.words import VerdictWord
from robustbench_coded.statistics.anytime.final import is_final
from robustbench_coded.statistics.intervals import Interval


def judged(word, high, bar=0.03, compared=False):
    accuracy = Interval(0.0, 0.0, high)
    return SimpleNamespace(word=VerdictWord(word), accuracy=accuracy, bar=bar, compared=compared)


@pytest.mark.parametrize(
    ("word", "high", "base_low", "expected"),
    [
        ("broken", 0.04, 0.0, True),
        ("claim refuted", 0.6, 0.5, True),
        ("no gain", 0.02, 0.0, True),
        ("no gain", 0.02, 0.005, True),  # less than none of 640 leaves: no certain loss can come of it
        ("no gain", 0.02, 0.2, False),  # it may become `worse than its base`
        ("no gain", 0.30, 0.0, False),  # and here the base model may fall below the defence
        ("worse than its base", 0.02, 0.2, False),
        ("no failure found", 0.9, 0.0, False),
        ("not settled", 0.02, 0.0, False),
    ],
)
def test_a_word_is_final_whatever_attacks_are_left(word, high, base_low, expected):
    assert is_final(judged(word, high), base_low, 640) is expected


def test_broken_is_not_final_where_the_gain_may_still_become_certain():
    assert not is_final(judged("broken", 0.04, compared=True), 0.0, 640)
