import numpy as np
import pytest
from msgspec.structs import replace

from robustbench_coded.statistics.case_results import case_results
from robustbench_coded.statistics.check import Check
from robustbench_coded.statistics.verdict import base_ensemble, verdict

PASSED = [Check("falls with eps", "passed", "")]
BASE = {"defence": "standard", "k": None, "n": None, "randomised": False, "batch_dependent": False}


def share(part, examples, draws=1):
    """A ``part`` of the examples right in every draw, evenly over the batches."""
    right = (np.arange(examples) * 89 % examples) < round(part * examples)
    return np.repeat(right[:, None], draws, axis=1)


def ensembles(evaluation, defended, base, examples=1600, **options):
    """The ensemble row of a defence that keeps a share ``defended``, and that of its base."""
    right = share(defended, examples, 4) if np.isscalar(defended) else defended
    run = evaluation().add("clean", share(1, examples, 4), share(1, examples, 4))
    run.add("pgd-10", right, right, **options)
    if base is not None:
        run.add("clean", share(1, examples), **BASE).add("pgd-10", share(base, examples), **BASE)
    rows = case_results(*run.parts())
    made = next(row for row in rows if row.key.attack == "ensemble" and row.key.defence == "rci")
    return made, base_ensemble(rows, made)


@pytest.mark.parametrize(
    ("defended", "base", "word"),
    [
        (0.0, 0.0, "no gain"),
        (0.03, 0.0, "no gain"),
        (0.33, 0.31, "no gain"),
        (0.20, 0.50, "no gain"),  # below its base is no gain either
        (0.12, 0.0, "no failure found"),
        (0.60, 0.40, "no failure found"),
        (0.03, None, "broken"),
        (0.0, None, "broken"),
        (0.08, None, "no failure found"),
    ],
)
def test_words_by_intervals(evaluation, defended, base, word):
    made = verdict(*ensembles(evaluation, defended, base), PASSED)
    assert made.word == word
    assert made.reason.endswith(".")


@pytest.mark.parametrize(
    ("defended", "base", "examples"),
    [(0.035, 0.0, 3200), (0.05, None, 320), (0.03, 0.0, 80)],
    ids=["between the words", "either side of 5 points", "too few examples"],
)
def test_an_interval_that_leaves_both_open_settles_nothing(evaluation, defended, base, examples):
    made = verdict(*ensembles(evaluation, defended, base, examples), PASSED)
    assert made.word == "not settled"
    assert "too wide" in made.reason


def test_batches_that_move_together_settle_less_than_independent_examples(evaluation):
    together = np.repeat(np.arange(100) % 2 == 0, 16)[: 100 * 16][:, None].repeat(4, axis=1)
    evenly = ensembles(evaluation, 0.5, 0.44)
    assert verdict(*evenly, PASSED).word == "no failure found"
    assert verdict(*ensembles(evaluation, together, 0.44), PASSED).word == "not settled"


@pytest.mark.parametrize("outcome", ["failed", "not run"])
def test_a_check_that_did_not_pass_leaves_strength_unsettled_but_not_weakness(evaluation, outcome):
    checks = [*PASSED, Check("random search", outcome, "")]
    strong = verdict(*ensembles(evaluation, 0.6, 0.2), checks)
    assert (strong.word, strong.open_checks) == ("not settled", ("random search",))
    assert f"random search ({outcome})" in strong.reason
    assert verdict(*ensembles(evaluation, 0.01, 0.0), checks).word == "no gain"


def test_a_claim_is_refuted_by_the_upper_end(evaluation):
    made, base = ensembles(evaluation, 0.30, 0.0)
    high = made.interval().high
    assert verdict(made, base, PASSED, claim=high + 0.001).word == "claim refuted"
    assert verdict(made, base, PASSED, claim=high - 0.001).word == "no failure found"


def test_missing_outcomes_settle_nothing(evaluation):
    made, base = ensembles(evaluation, 0.0, 0.0, planned=2000)
    assert verdict(made, base, PASSED).word == "not settled"
    assert "missing" in verdict(made, base, PASSED).reason


def test_a_defence_without_a_base_model_is_judged_alone(evaluation):
    made, base = ensembles(evaluation, 0.03, 0.03)
    assert (base is not None, verdict(made, base, PASSED).word) == (True, "no gain")
    run = evaluation().add("pgd-10", share(0.03, 1600, 4), share(0.03, 1600, 4))
    run.add("pgd-10", share(0.03, 1600), **BASE)
    outcomes, planned = run.parts()
    rows = case_results(outcomes, [replace(case, has_base=case.defence == "standard") for case in planned])
    alone = next(row for row in rows if row.key.attack == "ensemble" and row.key.defence == "rci")
    assert base_ensemble(rows, alone) is None
    assert verdict(alone, None, PASSED).word == "broken"
    assert base_ensemble(rows, next(row for row in rows if row.key.defence == "standard")) is None


def test_victims_are_compared_with_the_base_on_the_same_examples(evaluation):
    run = evaluation().add("pgd-10", share(0.3, 1600), **BASE)
    kept = share(0.3, 1600)[:, 0]
    victims = np.arange(0, 1600, 16)
    right = np.repeat(kept[victims][:, None], 4, axis=1)
    run.add("transfer-pgd-20", right, right, examples=victims, threat="victim/unknown")
    rows = case_results(*run.parts())
    made = next(
        row for row in rows if row.key.attack == "ensemble" and str(row.key.threat) == "victim/unknown"
    )
    found = verdict(made, base_ensemble(rows, made), PASSED)
    assert found.above_base.examples == 100
    assert found.above_base.estimate == 0
