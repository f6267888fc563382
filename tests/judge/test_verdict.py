"""The table of rules: each decides something, in its order, and none lets more attacks look better."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_coded.judge import rules as module
from robustbench_coded.judge.checks import Check, NextStep, run_attacks
from robustbench_coded.judge.intervals import Interval
from robustbench_coded.judge.paired import Difference
from robustbench_coded.judge.rules import RULES, decide
from robustbench_coded.judge.verdict import Verdict, is_final
from robustbench_coded.schema.case import WHOLE_BATCH, Claim, Perturbation
from robustbench_coded.schema.words import GRADIENT_SELF_TESTS, CheckName, VerdictName

PAGE = Path(__file__).parents[2] / "docs" / "verdicts.md"
BUDGET = Perturbation("linf", 8 / 255, "pixel")
POSITIVE, OPEN = VerdictName.NO_FAILURE_FOUND, VerdictName.NOT_SETTLED
CONDEMNED = (VerdictName.BROKEN, VerdictName.NO_GAIN, VerdictName.WORSE_THAN_BASE)


def accuracy(low, high):
    return Interval((low + high) / 2, low, high)


def gain(low, high):
    return Difference((low + high) / 2, low, high, 0.6, 0.6 - (low + high) / 2, 640)


def open_check(name, outcome="not run", step=None):
    return Check(name, outcome, "", next_step=step)


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
    "no outcomes": {"accuracy": None},
    "below the claim": {"claim": CLAIM, "claimed": accuracy(0.58, 0.62)},
    "below its base": {"gain": gain(-0.3, -0.1)},
    "gain below the margin": {"gain": gain(-0.01, 0.02)},
    "accuracy near the floor": {"accuracy": accuracy(0.08, 0.12), "gain": gain(0.04, 0.12)},
    "constant predictions": {"constant": True},
    "outcomes missing": {"missing": True},
    "base model not attacked": {"gain": None},
    "base model attacked less": {
        "gain": gain(-0.01, 0.02),
        "unmatched_attacks": "the base model was not attacked with square-1000",
    },
    "too few classes": {"clean": accuracy(0.1, 0.18), "accuracy": accuracy(0.1, 0.18)},
    "interval contains the threshold": {"gain": gain(0.02, 0.12)},
    "another attack may be stronger": {"checks": (open_check("another loss"),)},
    "not converged": {"checks": (open_check("twice the steps", "failed"),)},
    "uninformative gradient": {"checks": (open_check("self-tests: finite differences", "failed"),)},
    "inconsistent predictions": {"checks": (open_check("self-tests: base model", "failed"),)},
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
    if rule.name not in (
        "no outcomes",
        "nothing found",
    ):  # the first and the last: nothing stands in for them
        assert decide(figures).rule not in (rule.name, made.rule)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        # What is found is its own proof: no check, no break, nothing missing softens it.
        *[("gain below the margin", name) for name in DECIDES if DECIDES[name].keys() & {"checks", "breaks"}],
        ("accuracy near the floor", "outcomes missing"),
        ("outcomes missing", "too few classes"),
        ("too few classes", "interval contains the threshold"),
        ("below the claim", "gain below the margin"),
        ("below its base", "constant predictions"),
        ("outcomes missing", "another attack may be stronger"),
        ("interval contains the threshold", "inconsistent predictions"),
        ("not converged", "published break"),
    ],
)
def test_of_two_rules_that_apply_the_earlier_decides(earlier, later):
    assert decide(replace(GOOD, **DECIDES[later], **DECIDES[earlier])).rule == earlier


def test_an_attack_with_faulty_results_counts_as_not_run_and_is_to_be_mended():
    made = decide(replace(GOOD, faulty=3))
    assert (made.name, made.rule) == (OPEN, "outcomes missing")
    assert "3 faulty results" in made.reason and "mend it or leave it out" in made.reason


def test_no_check_that_is_open_goes_unheard():
    gradient = [f"self-tests: {name}" for name in GRADIENT_SELF_TESTS]
    for name in (*CheckName, *gradient, "self-tests: one of a later version"):
        made = decide(replace(GOOD, checks=(open_check(name),)))
        assert made.name == OPEN and made.open_checks == (name,) and f"{name} (not run)" in made.reason


def test_of_several_objections_the_first_of_the_table_decides_whatever_the_order_of_the_checks():
    checks = (
        open_check("self-tests: base model"),
        open_check("self-tests: steps uphill"),
        open_check("another loss"),
    )
    assert decide(replace(GOOD, checks=checks)).rule == "another attack may be stronger"
    assert decide(replace(GOOD, checks=checks[:2])).rule == "uninformative gradient"


def test_an_objection_names_all_that_is_open_and_at_most_three_steps():
    steps = [run_attacks("square-1000"), NextStep("run it again"), NextStep("look"), NextStep("x")]
    checks = tuple(
        open_check(name, step=step)
        for name, step in zip(("another loss", "twice the steps", "attacks agree", "self-tests"), steps)
    )
    made = decide(replace(GOOD, checks=checks))
    assert made.rule == "another attack may be stronger"
    assert "not every check passed: another loss (not run), twice the steps (not run), att" in made.reason
    assert made.reason.endswith("To settle it: add --attacks square-1000; run it again; look.")


@pytest.mark.parametrize(
    ("kept", "over_base", "word"),
    [
        ((0.00, 0.01), (-0.02, 0.01), "no gain"),
        ((0.10, 0.14), (0.02, 0.06), "broken"),  # below the floor, whatever the gain
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
    above = word == "broken" and over_base[0] > 0.03
    assert ("the gain is above the margin of 3 points" in made.reason) == above
    assert (f"at chance level: at most {GOOD.broken_at:.1%}" in made.reason) == (word == "broken")


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
    made = decide(replace(GOOD, **{**left, **withheld}))
    assert (made.name, made.rule) == ("no gain", "gain below the margin")
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
    return replace(
        GOOD,
        compared=compared,
        accuracy=accuracy(*kept),
        gain=gain(over[0] - 0.5, over[1] - 0.5) if compared and draw(st.booleans()) else None,
        broken_at=draw(fractions()),
        clean=draw(st.none() | st.just(accuracy(0.5, 0.7))),
        constant=draw(st.booleans()),
        missing=draw(st.booleans()),
        faulty=draw(st.integers(0, 1)),
        unmatched_attacks=draw(st.sampled_from(["", "the base model was spared pgd-20"])),
        checks=tuple(map(open_check, draw(st.lists(names, max_size=2)))),
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
def test_a_positive_verdict_is_above_both_bars_with_nothing_open(figures):
    made = decide(figures)
    nothing_open = not figures.checks and not (figures.missing or figures.faulty or figures.constant)
    assert (made.name == POSITIVE) == (figures.above_the_bar and nothing_open)
    if made.name in CONDEMNED:
        upper = figures.accuracy.high <= figures.broken_at or figures.constant
        assert upper or min(figures.accuracy.high, getattr(figures.gain, "high", 1.0)) < figures.bar


def plain(text):
    return " ".join(text.split())


def test_the_page_has_the_table():
    rows = re.findall(
        r"^\| (\d+) \| `([^|]+)` \| `([^|]+)` \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.M
    )
    table = []
    for number, rule in enumerate(RULES, start=1):
        table.append((str(number), rule.name, str(rule.verdict), rule.when, rule.why))
    assert rows == table


@pytest.mark.parametrize(
    ("word", "high", "base_low", "expected"),
    [
        ("broken", 0.04, 0.0, False),  # the gain may still become certain
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
    made = Verdict(VerdictName(word), "", accuracy(0.0, high), 0.03, compared=True)
    assert is_final(made, base_low, 640) is expected


def test_what_is_broken_with_nothing_to_compare_it_with_stays_so():
    assert is_final(Verdict(VerdictName.BROKEN, "", accuracy(0.0, 0.04), 0.15), 0.0, 640)


def test_inputs_that_do_more_in_their_own_batches_hold_back_a_positive_verdict_alone():
    own = replace(GOOD.accuracy, own=(0.3, 5))
    made = decide(replace(GOOD, accuracy=own))
    assert (made.name, made.rule) == (OPEN, "interval contains the threshold")
    assert "inputs that are made together do more in their own batch" in made.reason
    assert decide(replace(GOOD, accuracy=own, gain=gain(-0.01, 0.02))).name == "no gain"
