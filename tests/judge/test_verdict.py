"""The table of rules: each decides something, in its order, and none lets more attacks look better."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robustbench_coded.judge import rules as module
from robustbench_coded.judge.checks import Check
from robustbench_coded.judge.intervals import AsAttacked, Interval
from robustbench_coded.judge.paired import Difference
from robustbench_coded.judge.rules import RULES, decide
from robustbench_coded.judge.verdict import Verdict
from robustbench_coded.schema.case import WHOLE_BATCH, Claim, Perturbation
from robustbench_coded.schema.words import GRADIENT_SELF_TESTS, CheckName, VerdictName

PAGE = Path(__file__).parents[2] / "docs" / "verdicts.md"
BUDGET = Perturbation("linf", 8 / 255, "pixel")
POSITIVE, OPEN = VerdictName.NO_FAILURE_FOUND, VerdictName.NOT_SETTLED
CONDEMNED = (VerdictName.BROKEN, VerdictName.NO_GAIN, VerdictName.WORSE_THAN_BASE)


def accuracy(low, high):
    return Interval((low + high) / 2, low, high, images=640)


def gain(low, high):
    return Difference((low + high) / 2, low, high, 0.6, 0.6 - (low + high) / 2, 640)


def open_check(name, outcome="not run"):
    return Check(name, outcome, "")


# A defence that keeps 60%, 30 points above its base model, and passed what was asked.
GOOD = Verdict(
    OPEN,
    "",
    accuracy(0.58, 0.62),
    0.03,
    compared=True,
    broken_at=0.15,
    gain=gain(0.28, 0.32),
    checks=(Check("attacks agree", "passed", ""),),
)
CLAIM = Claim(0.7, WHOLE_BATCH, BUDGET)
ALONE = {"compared": False, "gain": None, "bar": 0.15}
# What makes each rule decide.
DECIDES = {
    "below the claim": {"claim": CLAIM, "claimed": accuracy(0.58, 0.62)},
    "below its base": {"gain": gain(-0.3, -0.1)},
    "accuracy at chance level": {"accuracy": accuracy(0.08, 0.12)},
    "constant predictions": {"constant": True},
    "gain below the minimum": {"gain": gain(-0.01, 0.02)},
    "incomplete": {"missing": True},
    "other attacks on the base model": {
        "gain": gain(-0.01, 0.02),
        "unmatched_attacks": "the base model was not attacked with square-1000",
    },
    "interval contains the threshold": {"gain": gain(0.02, 0.12)},
    "open check": {"checks": (open_check("self-tests: finite differences", "failed"),)},
    "published break": {"breaks": ("arXiv 2002.08347",)},
    "nothing found": {},
}


def test_every_rule_has_a_case_here():
    assert [rule.name for rule in RULES] == list(DECIDES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_decides_and_without_it_another_one_would(rule, monkeypatch):
    figures = replace(GOOD, **DECIDES[rule.name])
    made = decide(figures)
    assert (made.rule, made.name) == (rule.name, rule.verdict)
    assert made.reason.startswith(f"{rule.name.capitalize()}: ") and made.reason.endswith(".")
    monkeypatch.setattr(module, "RULES", tuple(other for other in RULES if other is not rule))
    if rule.name != "nothing found":  # nothing stands in for the last
        assert decide(figures).rule not in (rule.name, made.rule)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        # What is found is its own proof: no check, no break, nothing missing softens it.
        *[
            ("gain below the minimum", name)
            for name in DECIDES
            if DECIDES[name].keys() & {"checks", "breaks"}
        ],
        ("accuracy at chance level", "incomplete"),
        ("incomplete", "interval contains the threshold"),
        ("below the claim", "gain below the minimum"),
        ("below its base", "constant predictions"),
        ("below its base", "accuracy at chance level"),
        ("accuracy at chance level", "gain below the minimum"),
        ("constant predictions", "gain below the minimum"),
        ("incomplete", "open check"),
        ("interval contains the threshold", "open check"),
        ("open check", "published break"),
    ],
)
def test_of_two_rules_that_apply_the_earlier_decides(earlier, later):
    assert decide(replace(GOOD, **DECIDES[later], **DECIDES[earlier])).rule == earlier


def test_an_attack_with_faulty_results_counts_as_not_run_and_is_to_be_mended():
    made = decide(replace(GOOD, faulty=3))
    assert (made.name, made.rule) == (OPEN, "incomplete")
    assert "3 faulty results" in made.reason and "mend it or leave it out" in made.reason


def test_no_check_that_is_open_goes_unheard():
    gradient = [f"self-tests: {name}" for name in GRADIENT_SELF_TESTS]
    for name in (*CheckName, *gradient, "self-tests: one of a later version"):
        made = decide(replace(GOOD, checks=(open_check(name),)))
        assert made.name == OPEN and made.open_checks == (name,) and f"{name} (not run)" in made.reason


def test_an_objection_names_all_that_is_open():
    checks = tuple(map(open_check, ("another loss", "twice the steps", "attacks agree", "self-tests")))
    made = decide(replace(GOOD, checks=checks))
    assert made.rule == "open check"
    assert "not every check passed: another loss (not run), twice the steps (not run), att" in made.reason


@pytest.mark.parametrize(
    ("kept", "over_base", "word"),
    [
        ((0.00, 0.01), (-0.02, 0.01), "broken"),  # at chance level, whatever the gain
        ((0.10, 0.14), (-0.02, 0.01), "broken"),
        ((0.10, 0.14), (-0.05, -0.01), "worse than its base"),
        ((0.10, 0.14), (0.04, 0.06), "broken"),
        ((0.10, 0.16), (0.08, 0.14), "not settled"),  # neither broken nor certainly above that
        ((0.16, 0.20), (0.04, 0.08), "no failure found"),
        ((0.16, 0.20), (0.03, 0.08), "not settled"),
        ((0.58, 0.62), (-0.05, -0.01), "worse than its base"),
        ((0.58, 0.62), (-0.05, 0.01), "no gain"),
        ((0.58, 0.62), (0.01, 0.02), "no gain"),  # certain, and of no size
    ],
)
def test_two_bars_one_for_the_gain_and_one_for_the_accuracy(kept, over_base, word):
    made = decide(replace(GOOD, accuracy=accuracy(*kept), gain=gain(*over_base)))
    assert made.name == word
    figures = f"{made.gain}; the minimum gain is 3 points; at most the chance threshold, 15.0%, is left."
    assert made.reason.endswith(figures) == (word == "broken")


@pytest.mark.parametrize(
    ("kept", "word"),
    [
        ((0.0, 0.15), "broken"),
        ((0.1, 0.2), "not settled"),
        ((0.15, 0.2), "not settled"),
        ((0.16, 0.2), POSITIVE),
    ],
)
def test_without_a_base_model_the_accuracy_alone_decides(kept, word):
    assert decide(replace(GOOD, **ALONE, accuracy=accuracy(*kept))).name == word


@pytest.mark.parametrize(
    "withheld",
    [
        {"missing": True},
        {"faulty": 3},
        {"unmatched_attacks": "the base model was not attacked with square-1000"},
        {"gain": None},
        {"gain": gain(-0.2, 0.3)},
        {"checks": (open_check("self-tests"),)},
    ],
)
def test_nothing_holds_back_the_word_where_less_than_the_margin_is_left(withheld):
    left = {"accuracy": accuracy(0.0, 0.029), "gain": gain(-0.01, 0.02)}
    made = decide(replace(GOOD, **{**left, **withheld}, broken_at=0.01))
    assert (made.name, made.rule) == ("no gain", "gain below the minimum")
    assert decide(replace(GOOD, **{**left, **withheld, **ALONE})).name == "broken"


def test_a_checkpoint_beside_a_defence_without_a_base_model_is_told_and_changes_nothing():
    made = decide(replace(GOOD, **ALONE, beside=gain(-0.3, -0.1)))
    assert made.name == POSITIVE
    assert "It names no base model; its checkpoint alone keeps 80.0%: -20.0 points" in made.reason


def fractions():
    return st.integers(0, 100).map(lambda percent: percent / 100)


@st.composite
def measured(draw):
    """Figures of a run, whatever they are."""
    kept = sorted(draw(st.lists(fractions(), min_size=2, max_size=2)))
    over = sorted(draw(st.lists(fractions(), min_size=2, max_size=2)))
    compared = draw(st.booleans())
    names = st.sampled_from([*CheckName, "self-tests: finite differences"])
    # At most two of them at once, so that many figures have nothing open.
    wrong = draw(
        st.sets(st.sampled_from(["constant", "missing", "faulty", "unmatched", "checks"]), max_size=2)
    )
    return replace(
        GOOD,
        compared=compared,
        accuracy=accuracy(*kept),
        gain=gain(over[0] - 0.5, over[1] - 0.5) if compared and draw(st.booleans()) else None,
        broken_at=draw(fractions()),
        clean=draw(st.none() | st.just(accuracy(0.5, 0.7))),
        constant="constant" in wrong,
        missing="missing" in wrong,
        faulty=int("faulty" in wrong),
        unmatched_attacks="the base model was spared pgd-20" if "unmatched" in wrong else "",
        checks=tuple(map(open_check, draw(st.lists(names, max_size=2)))) if "checks" in wrong else (),
    )


def lowered(interval, by):
    return replace(interval, estimate=interval.estimate - by, low=interval.low - by, high=interval.high - by)


@settings(deadline=None, max_examples=300)
@given(measured(), fractions(), measured())
def test_more_attacks_on_the_defence_never_turn_a_negative_verdict_positive(before, found, other):
    # They take right answers away, and may leave any check open, outcomes missing, the base model spared.
    after = replace(
        other,
        compared=before.compared,
        accuracy=lowered(before.accuracy, found),
        gain=None if before.gain is None else lowered(before.gain, found),
        broken_at=before.broken_at,
        clean=before.clean,
        constant=before.constant,
    )
    words = decide(before).name, decide(after).name
    assert not (words[0] in CONDEMNED and words[1] == POSITIVE)
    if words[0] in (VerdictName.BROKEN, VerdictName.NO_GAIN) and before.accuracy.high < 0.03:
        assert words[1] in CONDEMNED


@settings(deadline=None, max_examples=300)
@given(measured())
@example(replace(GOOD, accuracy=accuracy(0.01, 0.01), gain=gain(0.04, 0.04), broken_at=0.0, checks=()))
def test_a_positive_verdict_is_above_both_bars_with_nothing_open(figures):
    made = decide(figures)
    unmatched = figures.gain is not None and figures.unmatched_attacks
    nothing_open = not (figures.checks or figures.missing or figures.faulty or figures.constant or unmatched)
    assert (made.name == POSITIVE) == (figures.above_the_bar and nothing_open)
    if made.name in CONDEMNED:
        upper = figures.accuracy.high <= figures.broken_at or figures.constant
        assert upper or min(figures.accuracy.high, getattr(figures.gain, "high", 1.0)) < figures.bar


def plain(text):
    return " ".join(text.split())


def test_the_page_has_the_table():
    rows = re.findall(r"^\| (\d+) \| `([^|]+)` \| `([^|]+)` \| ([^|]+) \|$", PAGE.read_text(), re.M)
    table = [(str(n), rule.name, str(rule.verdict), rule.when) for n, rule in enumerate(RULES, start=1)]
    assert rows == table


def test_the_page_begins_with_every_verdict():
    first = PAGE.read_text().partition("\n## ")[0]
    assert set(re.findall(r"^\| `([^|]+)` \|", first, re.M)) == {str(name) for name in VerdictName}


def test_the_page_explains_every_check():
    section = PAGE.read_text().partition("\n## Checks\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"\*\*([^*]+)\*\*", section)) == {str(name) for name in CheckName}


# Less than the minimum gain, which is more than the chance threshold of a hundred classes.
LITTLE = {"accuracy": accuracy(0.0, 0.02), "broken_at": 0.01}


@pytest.mark.parametrize(
    ("figures", "needs", "base_alone"),
    [
        (DECIDES["below the claim"], "", False),
        (DECIDES["below its base"], "adaptive", True),
        ({"gain": gain(-0.01, 0.02)}, "adaptive", True),  # the base model may fall below the defence
        (LITTLE, "", False),  # whatever the base model keeps
        (LITTLE | {"base": accuracy(0.0, 0.01)}, "", False),
        (LITTLE | {"base": accuracy(0.2, 0.3)}, "adaptive", True),
        (DECIDES["accuracy at chance level"], "", False),
        (ALONE | {"accuracy": accuracy(0.0, 0.04)}, "", False),
        (DECIDES["incomplete"], "before a positive verdict", False),
        (DECIDES["other attacks on the base model"], "adaptive", False),
        (DECIDES["interval contains the threshold"], "more examples", False),
        (DECIDES["open check"], "before a positive verdict", False),
        (DECIDES["published break"], "", False),
        ({}, "before a positive verdict", False),
    ],
)
def test_a_rule_says_what_its_verdict_needs(figures, needs, base_alone):
    made = decide(replace(GOOD, **figures)).needs
    assert (bool(made.rungs), made.base_alone) == (bool(needs), base_alone)
    assert not needs or needs in made.rungs
    assert "more examples" not in made.rungs or needs == "more examples"


@pytest.mark.parametrize(("over", "asked"), [((0.0, 0.05), False), ((0.02, 0.12), True)])
def test_what_gains_no_more_than_the_margin_pays_for_no_positive_verdict(over, asked):
    made = decide(replace(GOOD, gain=gain(*over)))
    assert made.rule == "interval contains the threshold"
    assert ("before a positive verdict" in made.needs.rungs) == asked


def test_the_reason_names_the_figure_that_holds_a_verdict_open():
    """Nothing is left of 64 images, and clean inputs may be answered as rarely as the threshold is high."""
    left = {"accuracy": Interval(0.0, 0.0, 0.056, images=64), "clean": Interval(0.2, 0.1, 0.3, images=64)}
    made = decide(replace(GOOD, **ALONE, **left, broken_at=0.144))
    assert (made.name, made.rule) == (OPEN, "interval contains the threshold")
    assert "clean inputs 20.0%" in made.reason and "lies inside" not in made.reason


def test_bars_are_those_of_the_verdict_the_lowest_first():
    base = accuracy(0.1, 0.3)
    assert replace(GOOD, base=base).bars == (0.15, 0.23)
    assert replace(GOOD, base=base, broken_at=0.01).bars == (0.01, 0.03, 0.23)
    assert replace(GOOD, base=base, clean=accuracy(0.1, 0.3)).bars == (
        0.03,
        0.23,
    )  # none of them can be broken
    assert replace(GOOD, base=accuracy(0.0, 0.02)).bars == (0.15,)
    assert replace(GOOD, **ALONE).bars == (0.15,) and replace(GOOD, claim=CLAIM).bars == (0.7,)


@pytest.mark.parametrize(
    ("as_attacked", "gained", "says"),
    [
        ((0.58, 5), 0.03, "in their own batches 58.0%, in 5 batches: the gain there is +3.0 points"),
        ((0.58, 5), 0.031, ""),
        ((0.56, 5), 0.2, "in their own batches 56.0%, in 5 batches: inputs that are made together do more"),
    ],
)
def test_a_positive_verdict_also_needs_the_figure_as_attacked_and_a_negative_one_does_not(
    as_attacked, gained, says
):
    own = replace(GOOD.accuracy, own=AsAttacked(*as_attacked))
    made = decide(replace(GOOD, accuracy=own, gain=replace(GOOD.gain, own=gained)))
    assert made.name == (OPEN if says else POSITIVE) and says in made.reason
    assert made.rule == ("interval contains the threshold" if says else "nothing found")
    assert decide(replace(GOOD, accuracy=own, gain=replace(gain(-0.01, 0.02), own=gained))).name == "no gain"


def test_without_a_base_model_the_figure_as_attacked_has_to_be_above_the_chance_threshold():
    for own, word in ((0.15, OPEN), (0.16, POSITIVE)):
        kept = replace(accuracy(0.16, 0.18), own=AsAttacked(own, 5))
        made = decide(replace(GOOD, **ALONE, accuracy=kept))
        assert made.name == word
        assert ("in 5 batches: that is at most the chance threshold, 15.0%" in made.reason) == (word == OPEN)
