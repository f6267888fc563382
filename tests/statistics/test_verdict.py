import numpy as np
import pytest
from msgspec.structs import replace

from robustbench_coded.schema.case import BudgetKey
from robustbench_coded.schema.claim import Claim, ClaimedAccuracy
from robustbench_coded.schema.threat_model import ONE_VICTIM, WHOLE_BATCH
from robustbench_coded.statistics.case_results import case_results
from robustbench_coded.statistics.check import Check
from robustbench_coded.statistics.verdict import base_ensemble, verdict

PASSED = [Check("falls with eps", "passed", "")]
BASE = {"defence": "standard", "k": None, "n": None, "randomised": False, "batch_dependent": False}


def share(part, examples, draws=1):
    """A ``part`` of the examples right in every draw, evenly over the batches."""
    right = (np.arange(examples) * 89 % examples) < round(part * examples)
    return np.repeat(right[:, None], draws, axis=1)


def ensembles(evaluation, defended, base, examples=1600, *, one_by_one=False, **options):
    """The ensemble row of a defence that keeps a share ``defended``, and that of its base."""
    right = share(defended, examples, 4) if np.isscalar(defended) else defended
    answers = {"batch_dependent": not one_by_one}
    run = evaluation().add("clean", share(1, examples, 4), share(1, examples, 4), **answers)
    run.add("pgd-10", right, right, **answers, **options)
    if base is not None:
        run.add("clean", share(1, examples), **BASE).add("pgd-10", share(base, examples), **BASE)
    rows = case_results(*run.parts())
    made = next(row for row in rows if row.key.attack == "ensemble" and row.key.defence == "rci")
    return made, base_ensemble(rows, made)


def alone(evaluation, left, examples=1600, clean=None, labels=None):
    """The ensemble row of a defence that names no base model."""
    run = evaluation().add("clean", share(1, examples, 4) if clean is None else clean)
    right = share(left, examples, 4) if np.isscalar(left) else left
    run.add("pgd-10", right, right)
    outcomes, planned = run.parts()
    if labels is not None:
        outcomes = labels(outcomes)
    rows = case_results(outcomes, [replace(case, has_base=False) for case in planned])
    return next(row for row in rows if row.key.attack == "ensemble")


@pytest.mark.parametrize(
    ("defended", "base", "word"),
    [
        (0.0, 0.0, "no gain"),
        (0.01, 0.0, "no gain"),
        (0.30, 0.30, "no gain"),
        (0.20, 0.50, "worse than its base"),
        (0.27, 0.30, "worse than its base"),
        (0.29, 0.30, "no gain"),  # a loss that is not certain
        (0.12, 0.0, "no failure found"),
        (0.60, 0.40, "no failure found"),
    ],
)
def test_words_by_the_interval_of_the_gain(evaluation, defended, base, word):
    made = verdict(*ensembles(evaluation, defended, base, 12_800), PASSED)
    assert made.word == word
    assert made.reason.endswith(".")


@pytest.mark.parametrize(
    ("defended", "base", "word"),
    [
        (0.02, 0.0, "no gain"),
        (0.12, 0.08, "broken"),  # of ten even classes: worth no more than a constant answer
        (0.12, 0.0, "broken"),
        (0.12, 0.18, "worse than its base"),
        (0.20, 0.0, "no failure found"),
    ],
)
def test_what_answers_one_by_one_and_keeps_next_to_nothing_is_broken(evaluation, defended, base, word):
    made = verdict(*ensembles(evaluation, defended, base, 12_800, one_by_one=True), PASSED)
    assert made.word == word
    assert ("broken means at most 15.0%" in made.reason) == (word == "broken")


def test_a_gain_that_is_certain_and_below_the_margin_is_called_so(evaluation):
    rows = ensembles(evaluation, 0.02, 0.0, 12_800)
    made = verdict(*rows, PASSED)
    assert made.word == "no gain" and made.gain.low > 0
    assert "a significant gain, but below the margin of 3" in made.reason
    assert verdict(*rows, PASSED, margin=0.01).word == "no failure found"
    assert verdict(*rows, PASSED, margin=0.02).word == "not settled"


@pytest.mark.parametrize(
    ("left", "word"),
    [
        (0.0, "broken"),
        (0.10, "broken"),  # ten even classes: what uninformative inputs leave
        (0.12, "broken"),
        (0.15, "not settled"),  # either side of 10 points and 5% of 100
        (0.20, "no failure found"),
    ],
)
def test_without_a_base_model_the_floor_and_the_clean_accuracy_are_the_bar(evaluation, left, word):
    made = verdict(alone(evaluation, left, 12_800), None, PASSED)
    assert made.word == word, made.reason
    assert made.bar == pytest.approx(0.15, abs=0.001)
    assert made.clean.estimate == 1


@pytest.mark.parametrize("answer", [0, 7, 11], ids=["the largest class", "another class", "rejection"])
def test_a_constant_answer_is_broken_whatever_it_keeps(evaluation, answer):
    def constant(outcomes):
        label = np.where(outcomes.example % 10 < 3, 0, outcomes.example % 10)
        return outcomes.assign(label=label, prediction=answer)

    for examples in (100, 640):
        made = verdict(alone(evaluation, 0.5, examples, labels=constant), None, PASSED)
        assert (made.accuracy.estimate, made.word) == ({0: 0.3, 7: 0.1, 11: 0.0}[answer], "broken")


def test_guesses_are_broken_and_whatever_looks_at_its_input_is_not(evaluation):
    def guesses(outcomes):
        return outcomes.assign(prediction=(outcomes.example * 7 // 10 + outcomes.draw) % 10)

    made = verdict(alone(evaluation, 0.5, 6400, labels=guesses), None, PASSED)
    assert made.accuracy.estimate == pytest.approx(0.1, abs=0.02) and made.word == "broken"
    assert verdict(alone(evaluation, 0.5, 640), None, PASSED).word == "no failure found"


def test_a_base_model_that_was_not_run_is_missed_unless_nothing_is_left(evaluation):
    left, base = ensembles(evaluation, 0.5, None)
    made = verdict(left, base, PASSED)
    assert (made.word, made.gain) == ("not settled", None)
    assert "attack standard inference, too" in made.reason
    nothing, _ = ensembles(evaluation, 0.0, None, 12_800)
    assert verdict(nothing, None, PASSED).word == "no gain"


@pytest.mark.parametrize(
    ("defended", "base", "examples"), [(0.035, 0.0, 3200), (0.03, 0.0, 80)], ids=["near the margin", "few"]
)
def test_an_interval_that_holds_the_margin_settles_nothing(evaluation, defended, base, examples):
    made = verdict(*ensembles(evaluation, defended, base, examples), PASSED)
    assert made.word == "not settled"
    assert "--limit" in made.reason


def test_the_clean_loss_is_measured_beside_the_word(evaluation):
    run = evaluation().add("clean", share(0.9, 1600, 4)).add("clean", share(0.95, 1600), **BASE)
    run.add("pgd-10", share(0.5, 1600, 4), share(0.5, 1600, 4)).add("pgd-10", share(0, 1600), **BASE)
    rows = case_results(*run.parts())
    made = next(row for row in rows if row.key.attack == "ensemble" and row.key.defence == "rci")
    found = verdict(made, base_ensemble(rows, made), PASSED)
    assert found.clean.estimate == pytest.approx(0.9)
    assert found.clean_loss.estimate == pytest.approx(0.05)
    assert found.clean_loss.low < 0.05 < found.clean_loss.high


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
    assert verdict(*ensembles(evaluation, 0.01, 0.0, 12_800), checks).word == "no gain"


BUDGET = BudgetKey("linf", 8 / 255, "pixel")


def test_a_claim_is_refuted_by_the_upper_end(evaluation):
    made, base = ensembles(evaluation, 0.30, 0.0)
    high = made.interval().high

    def word(value, **what):
        claim = Claim(value, **{"threat": WHOLE_BATCH, "budget": BUDGET, **what})
        return verdict(made, base, PASSED, claim=claim).word

    assert word(high + 0.001) == "claim refuted"
    assert word(high - 0.001) == "no failure found"
    assert word(1.0, threat=ONE_VICTIM) == "no failure found"
    assert word(1.0, threat=WHOLE_BATCH.with_draw("known")) == "no failure found"
    assert word(1.0, budget=BUDGET._replace(eps=0.3)) == "no failure found"
    assert word(1.0, budget=None) == "no failure found"


def test_each_accuracy_has_claims_of_its_own(evaluation):
    examples = np.arange(1600)
    draws = np.stack([examples % 4 != draw for draw in range(4)], axis=1)  # each is wrong in one draw of four
    made, base = ensembles(evaluation, draws, 0.0)

    def word(about):
        claim = Claim(0.5, WHOLE_BATCH, BUDGET, ClaimedAccuracy(about))
        return verdict(made, base, PASSED, claim=claim).word

    assert [word(about) for about in ("mean", "majority", "every-draw")] == [
        "no failure found",
        "no failure found",
        "claim refuted",
    ]


def test_an_incomplete_run_refutes_nothing(evaluation):
    made, base = ensembles(evaluation, 0.0, 0.0, planned=2000)
    found = verdict(made, base, PASSED, claim=Claim(0.9, WHOLE_BATCH, BUDGET))
    assert found.word == "not settled"


def test_missing_outcomes_settle_nothing(evaluation):
    made, base = ensembles(evaluation, 0.0, 0.0, planned=2000)
    assert verdict(made, base, PASSED).word == "not settled"
    assert "missing" in verdict(made, base, PASSED).reason


def test_standard_inference_and_defences_that_name_no_base_have_none(evaluation):
    run = evaluation().add("pgd-10", share(0.03, 1600, 4), share(0.03, 1600, 4))
    run.add("pgd-10", share(0.03, 1600), **BASE)
    outcomes, planned = run.parts()
    rows = case_results(outcomes, [replace(case, has_base=case.defence == "standard") for case in planned])
    lone = next(row for row in rows if row.key.attack == "ensemble" and row.key.defence == "rci")
    assert base_ensemble(rows, lone) is None
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
    assert found.gain.examples == 100
    assert found.gain.estimate == 0
