"""Statistical sentences of numbers.md and verdicts.md: each is written from the constants and functions that
decide, so that neither can change alone.
"""

from pathlib import Path

import numpy as np
import pytest

from robustbench_coded.evaluation.planning import comparisons
from robustbench_coded.judge import (
    anytime,
    attack_checks,
    case_results,
    checks,
    intervals,
    judge,
    outcomes,
)

DOCS = Path(__file__).parents[2] / "docs"


def percent(share, digits=1):
    return f"{100 * share:.{digits}f}".removesuffix(".0")


def cell(labels, answers):
    """A cell of one draw."""
    labels, answers = (np.asarray(values) for values in (labels, answers))
    at = np.arange(len(labels))
    return outcomes.Cell(at, at, labels, np.arange(1), answers[:, None].astype(np.int32))


def alike(classes):
    """The threshold of `broken`, and the floor, for right answers to many images of balanced classes."""
    labels = np.arange(20_000) % classes
    return outcomes.broken_below(cell(labels, labels)), outcomes.floor_of(cell(labels, labels))


def staked():
    return "in equal parts" if len({*anytime.CAPITAL[1:]}) == 1 else "otherwise"


NUMBERS = {
    "error of an end": lambda: f"each end errs with probability at most α = {percent(intervals.TAIL)}%",
    "bets": lambda: f"c in {{{', '.join(f'{share:g}' for share in anytime.SHARES)}}}",
    "stakes": lambda: (
        f"half of it staked at c = {anytime.SHARES[anytime.CAPITAL == 0.5][0]:g}, the rest {staked()}"
    ),
    "near the strongest": lambda: (
        f"if every attack within {percent(case_results.CLOSE)} points of the strongest was scored"
    ),
    "too few draws": lambda: (
        f"with fewer than {'five' if intervals.ENOUGH == 5 else intervals.ENOUGH} degrees of freedom there "
        "is no interval"
    ),
    "the first look": lambda: (
        "At the first each end errs in "
        f"{percent(intervals.TAIL / comparisons.looks((256, 512, 1024), 256), 2)}%, half of α"
    ),
    "sample sizes": lambda: (
        f"known beforehand: {', '.join(map(str, comparisons.sample_sizes(10_000, 128)[:3]))} ... images or "
        "all"
    ),
}
VERDICTS = {
    "minimum gain": lambda: (
        f"the **minimum gain**, {percent(judge.MARGIN)} points unless `--margin` changes it"
    ),
    "share of clean": lambda: (
        f"at most chance level plus {percent(outcomes.SHARE_OF_CLEAN)}% of its clean accuracy"
    ),
    "chance level": lambda: (
        f"It is about {percent(alike(10)[1], 0)}% for ten balanced classes, {percent(alike(100)[1], 0)}% for "
        f"a hundred and {percent(alike(2)[1], 0)}% for two"
    ),
    "counts as balanced": lambda: (
        "if a random sample of equal shares would make one as common with probability "
        f"{percent(outcomes.BY_CHANCE)}% or more"
    ),
    "two classes": lambda: f"With two balanced classes, the threshold is {percent(alike(2)[0], 0)}%",
    "constant": lambda: (
        f"exceeds the frequency of the most common class by at most {percent(outcomes.NEAR_CONSTANT)} points "
        "(or by half that frequency, if less)"
    ),
    "not constant": lambda: (
        f"the upper limit of the clean accuracy is below {percent(outcomes.NEARLY_ALL)}% and"
    ),
    "attacks agree": lambda: (
        f"accuracy under the strongest attack is at most {percent(attack_checks.DISAGREE)} points higher "
        "than under the ensemble"
    ),
    "a difference that counts": lambda: (
        f"the difference is at least {'half a point' if checks.WORTH == 0.005 else checks.WORTH}"
    ),
    "a comparison that tells": lambda: (
        f"so wide that a difference of {'six' if checks.TELLS == 0.06 else checks.TELLS} points is still "
        "possible"
    ),
    "informative": lambda: (
        f"it uses gradients, at least {'ten' if checks.FEWEST_STEPS == 10 else checks.FEWEST_STEPS} steps "
        "and the whole ball"
    ),
}


@pytest.mark.parametrize(
    ("page", "name"),
    [("numbers.md", name) for name in NUMBERS] + [("verdicts.md", name) for name in VERDICTS],
)
def test_the_page_says_what_the_code_does(page, name):
    text = " ".join((DOCS / page).read_text().split())
    sentence = (NUMBERS if page == "numbers.md" else VERDICTS)[name]()
    assert sentence in text
