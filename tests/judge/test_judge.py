"""The figures behind a verdict, from the rows of a run: bars, claims, missing and degenerate outcomes."""

import numpy as np
import pandas as pd
import pytest
from msgspec import structs
from msgspec.structs import replace

from robustbench_coded.judge.checks import Check
from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.judge import base_ensemble, judge
from robustbench_coded.schema.case import WHOLE_BATCH, Claim, Perturbation, ThreatModel
from robustbench_coded.schema.words import ENSEMBLE, STANDARD, CheckOutcome

PASSED = [Check("attacks agree", CheckOutcome.PASSED, "")]
BASE = {"defence": "standard", "k": None, "n": None, "randomised": False, "batch_dependent": False}
BUDGET = Perturbation("linf", 8 / 255, "pixel")
BOTH = ("apgd-mt-20", "transfer-apgd-mt-20")


def share(part, examples, draws=1):
    """A ``part`` of the examples right in every draw, evenly over the batches."""
    right = (np.arange(examples) * 89 % examples) < round(part * examples)
    return np.repeat(right[:, None], draws, axis=1)


def ensemble_of(rows, defence="rci", threat="batch/unknown"):
    found = (row for row in rows if row.case.attack == ENSEMBLE and str(row.case.threat) == threat)
    return next(row for row in found if row.case.subject.defence == defence)


def run_of(evaluation, kept, base, examples=1600, *, in_batches=False, **options):
    """A run of a defence that keeps a share ``kept``, and its base model ``base``, under the same attacks."""
    right = share(kept, examples, 4) if np.isscalar(kept) else kept
    answers = {"batch_dependent": in_batches}
    run = evaluation().add("clean", share(1, examples, 4), share(1, examples, 4), **answers)
    for attack in BOTH:
        run.add(attack, right, right, **answers, **options)
    if base is not None:
        run.add("clean", share(1, examples), **BASE).add("apgd-mt-20", share(base, examples), **BASE)
    return case_results(*run.parts())


def judged(evaluation, kept, base, examples=1600, *, checks=PASSED, margin=0.03, claim=None, **options):
    rows = run_of(evaluation, kept, base, examples, **options)
    return judge(rows, ensemble_of(rows), checks, margin=margin, claim=claim)


def alone(evaluation, kept, examples=1600, labels=lambda outcomes: outcomes):
    """The verdict on a defence that names no base model."""
    run = evaluation().add("clean", share(1, examples, 4), batch_dependent=False)
    right = share(kept, examples, 4)
    outcomes, planned = run.add("apgd-mt-20", right, right, batch_dependent=False).parts()
    rows = case_results(labels(outcomes), [replace(case, has_base=False) for case in planned])
    return judge(rows, ensemble_of(rows), PASSED)


@pytest.mark.parametrize(
    ("kept", "base", "word"),
    [
        (0.0, 0.0, "broken"),
        (0.01, 0.0, "broken"),
        (0.30, 0.30, "no gain"),
        (0.20, 0.50, "worse than its base"),
        (0.27, 0.30, "worse than its base"),
        (0.12, 0.08, "broken"),  # of ten even classes: worth no more than a constant answer
        (0.12, 0.0, "broken"),
        (0.12, 0.18, "worse than its base"),
        (0.20, 0.0, "no failure found"),
        (0.60, 0.40, "no failure found"),
    ],
)
def test_words_by_the_intervals(evaluation, kept, base, word):
    made = judged(evaluation, kept, base, 12_800)
    assert made.name == word, made.reason
    assert ("at most the chance threshold, 15.0%" in made.reason) == (word == "broken")


def test_the_margin_is_the_smallest_gain_that_counts(evaluation):
    margins = (0.03, 0.02, 0.01)
    made = [judged(evaluation, 0.22, 0.20, 3200, margin=margin) for margin in margins]
    assert [found.name for found in made] == ["no gain", "not settled", "no failure found"]


@pytest.mark.parametrize(
    ("kept", "word"),
    [(0.0, "broken"), (0.12, "broken"), (0.15, "not settled"), (0.20, "no failure found")],
)
def test_without_a_base_model_the_floor_and_the_clean_accuracy_are_the_bar(evaluation, kept, word):
    made = alone(evaluation, kept, 12_800)
    assert made.name == word, made.reason
    assert made.bar == pytest.approx(0.15, abs=0.001) and made.clean.estimate == 1


@pytest.mark.parametrize("answer", [0, 7, 11], ids=["the largest class", "another class", "rejection"])
def test_a_constant_answer_is_broken_whatever_it_keeps(evaluation, answer):
    def constant(outcomes):
        label = np.where(outcomes.example % 10 < 3, 0, outcomes.example % 10)
        return outcomes.assign(label=label, prediction=answer)

    for examples in (100, 640):
        made = alone(evaluation, 0.5, examples, constant)
        assert (made.accuracy.estimate, made.name) == ({0: 0.3, 7: 0.1, 11: 0.0}[answer], "broken")


def test_guesses_are_broken_and_whatever_looks_at_its_input_is_not(evaluation):
    def guesses(outcomes):
        return outcomes.assign(prediction=(outcomes.example * 7 // 10 + outcomes.draw) % 10)

    made = alone(evaluation, 0.5, 6400, guesses)
    assert made.accuracy.estimate == pytest.approx(0.1, abs=0.02) and made.name == "broken"
    assert alone(evaluation, 0.5, 640).name == "no failure found"


def test_a_base_model_that_was_not_run_is_missed_unless_nothing_is_left(evaluation):
    made = judged(evaluation, 0.5, None)
    assert (made.rule, made.gain) == ("incomplete", None)
    assert judged(evaluation, 0.0, None, 12_800).name == "broken"


@pytest.mark.parametrize(
    ("kept", "base", "examples"), [(0.235, 0.20, 3200), (0.10, 0.0, 80)], ids=["near the margin", "few"]
)
def test_an_interval_that_holds_a_bar_settles_nothing(evaluation, kept, base, examples):
    made = judged(evaluation, kept, base, examples)
    assert made.rule == "interval contains the threshold" and "expected to settle it" in made.reason


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_disjoint_batches_alone_settle_nothing(evaluation, kept):
    assert judged(evaluation, kept, 0.44).name != "not settled"
    made = judged(evaluation, kept, 0.44, in_batches=True)
    assert (made.name, made.accuracy.kind, made.gain.kind) == ("not settled", None, None)
    assert "no interval, 1,600 images" in made.reason


@pytest.mark.parametrize(("kept", "name"), [(0.0, "broken"), (0.12, "broken"), (0.6, "not settled")])
def test_a_known_draw_reads_the_upper_end_of_the_unknown_one_and_is_never_positive(evaluation, kept, name):
    run = evaluation().add("clean", share(1, 1600, 4), batch_dependent=False)
    run.add("clean", share(1, 1600), **BASE).add("apgd-mt-20", share(0.0, 1600), **BASE)
    alone = evaluation().add("clean", share(1, 1600, 4), batch_dependent=False)
    alone.add("clean", share(1, 1600), **BASE).add("apgd-mt-20", share(0.0, 1600), **BASE)
    for attack in BOTH:
        run.add(attack, share(kept, 1600, 4), share(kept, 1600, 4), batch_dependent=False)
    for made in (run, alone):
        made.add("aware-pgd-20", share(kept, 1600, 2), batch_dependent=False, threat="batch/known")
    rows = case_results(*run.parts())
    found = judge(rows, ensemble_of(rows, threat="batch/known"), PASSED)
    unknown = judge(rows, ensemble_of(rows), PASSED)
    assert (found.name, found.accuracy.kind, found.gain.kind) == (name, None, None)
    assert found.accuracy.high == unknown.accuracy.high
    assert f"that of an unknown draw, {unknown.accuracy.high:.1%} for batch/unknown" in found.reason
    rows = case_results(*alone.parts())
    assert judge(rows, ensemble_of(rows, threat="batch/known"), PASSED).name == "not settled"


@pytest.mark.parametrize("outcome", ["failed", "not run"])
def test_a_check_that_did_not_pass_leaves_strength_unsettled_but_not_weakness(evaluation, outcome):
    checks = [*PASSED, Check("twice the steps", CheckOutcome(outcome), "")]
    strong = judged(evaluation, 0.6, 0.2, checks=checks)
    assert (strong.rule, strong.open_checks) == ("open check", ("twice the steps",))
    assert judged(evaluation, 0.01, 0.0, 12_800, checks=checks).name == "broken"


def test_a_claim_is_refuted_by_the_upper_end(evaluation):
    rows = run_of(evaluation, 0.30, 0.0)
    high = ensemble_of(rows).interval().high

    def word(value, **what):
        claim = Claim(value, **{"threat": WHOLE_BATCH, "perturbation": BUDGET, **what})
        return judge(rows, ensemble_of(rows), PASSED, claim=claim).name

    assert word(high + 0.001) == "claim refuted"
    assert word(high - 0.001) == "no failure found"
    assert word(1.0, threat=ThreatModel("victim", "unknown")) == "no failure found"
    assert word(1.0, threat=WHOLE_BATCH.with_draw("known")) == "no failure found"
    assert word(1.0, perturbation=structs.replace(BUDGET, eps=0.3)) == "no failure found"
    assert word(1.0, perturbation=None) == "no failure found"


@pytest.mark.parametrize(
    ("votes", "value", "word", "claimed"),
    [
        (1, 0.58, "no failure found", 0.625),
        (4, 0.58, "claim refuted", 0.5),
        (3, 0.58, "claim refuted", 0.5),  # the last two draws are in no majority
        (4, 0.45, "no failure found", 0.5),
        (8, 0.99, "no failure found", 0.5),  # one majority does not show whether a batch shares it
        (9, 0.99, "no failure found", None),  # more votes than draws
    ],
)
def test_a_claim_about_majorities_goes_by_them(evaluation, votes, value, word, claimed):
    """One half is right in one draw of four, the other in all; under pgd all are right in three."""
    split = np.arange(1600)[:, None] % 2 | (np.arange(4) == 0)
    mostly = np.repeat((np.arange(4) > 0)[None], 1600, axis=0)
    own = {"batch_dependent": False}
    alone = evaluation().add("pgd-10", np.tile(mostly, 2), mostly, **own)
    for attack in BOTH:
        alone.add(attack, np.tile(split, 2), split, **own)
    alone.add("clean", share(1, 1600, 8), share(1, 1600, 4), **own).add("clean", share(1, 1600), **BASE)
    rows = case_results(*alone.add("apgd-mt-20", share(0.0, 1600), **BASE).parts())
    claim = Claim(value, WHOLE_BATCH, BUDGET, "pgd-10", votes)
    made = judge(rows, ensemble_of(rows), PASSED, claim=claim)
    assert made.name == word and made.accuracy.estimate == 0.625
    assert (None if made.claimed is None else made.claimed.estimate) == claimed
    if word == "claim refuted":
        ends = f"{made.claimed.low:.1%} to {made.claimed.high:.1%} for the population, 1,600 images"
        told = f"{made.claimed.estimate:.1%} ({ends})"
        assert f"apgd-mt-20 refutes it alone and leaves {told}" in made.reason
        assert "pgd-10, under which it was claimed, leaves 100.0%" in made.reason
        assert (
            f"of majorities of {votes} answers is refuted for the population, {told} is left" in made.reason
        )
    elif claimed is not None:
        assert f"Claimed: {value:.1%} of" in made.reason


def test_missing_outcomes_refute_no_claim_and_make_no_verdict_positive(evaluation):
    claim = Claim(0.99, WHOLE_BATCH, BUDGET)
    made = judged(evaluation, 0.6, 0.2, claim=claim, planned=2000)
    assert (made.name, made.accuracy, made.claimed) == ("not settled", None, None)
    assert made.rule == "incomplete"


def test_an_attack_with_missing_outcomes_does_not_count(evaluation):
    def word(kept, late, claim=None):
        own = {"batch_dependent": False, "randomised": False}
        run = evaluation().add("clean", share(1, 1600), **own).add("clean", share(1, 1600), **BASE)
        run.add("apgd-mt-20", share(0.0, 1600), **BASE)
        for attack, right, planned in (("apgd-mt-20", kept, 1600), ("transfer-pgd-20", late, 2000)):
            run.add(attack, share(right, 1600), planned=planned, **own)
        rows = case_results(*run.parts())
        made = judge(rows, ensemble_of(rows), PASSED, claim=claim)
        return made.name, made.accuracy.estimate, "outcomes are ignored" in made.reason

    assert word(0.0, 0.5) == ("broken", 0.0, True)
    assert word(0.6, 0.0) == ("not settled", 0.6, True)
    assert word(0.6, 0.0, Claim(0.9, WHOLE_BATCH, BUDGET))[0] == "not settled"  # the claim waits for the rest


def test_standard_inference_and_defences_that_name_no_base_have_none(evaluation):
    run = evaluation().add("pgd-10", share(0.03, 1600, 4), share(0.03, 1600, 4))
    outcomes, planned = run.add("pgd-10", share(0.03, 1600), **BASE).parts()
    rows = case_results(
        outcomes, [replace(record, has_base=record.case.subject.defence == STANDARD) for record in planned]
    )
    assert base_ensemble(rows, ensemble_of(rows)) is None
    assert base_ensemble(rows, ensemble_of(rows, STANDARD)) is None


def test_victims_are_compared_with_the_base_on_the_same_examples(evaluation):
    run = evaluation().add("pgd-10", share(0.3, 1600), **BASE)
    victims = np.arange(0, 1600, 16)
    right = np.repeat(share(0.3, 1600)[victims], 4, axis=1)
    run.add("transfer-pgd-20", right, right, examples=victims, threat="victim/unknown")
    rows = case_results(*run.parts())
    found = judge(rows, ensemble_of(rows, threat="victim/unknown"), PASSED)
    assert (found.gain.examples, found.gain.estimate) == (100, 0)


def test_a_few_victims_do_not_say_which_class_is_common(evaluation):
    run = evaluation().add("clean", share(0.4, 1600))
    run.add("transfer-pgd-20", *np.ones((2, 4, 1)), examples=[0, 10, 20, 3], threat="victim/unknown")
    rows = case_results(*run.parts())
    found = judge(rows, ensemble_of(rows, threat="victim/unknown"), PASSED)
    assert found.broken_at < 0.13 and not found.constant


def in_random_batches(outcomes, attack, images, k, batches=200):
    """``outcomes`` with those of an attack's inputs in random batches, none of them right."""
    rng = np.random.default_rng(0)
    like = outcomes[
        (outcomes.attack == attack) & (outcomes.purpose == "scoring") & (outcomes.defence == "rci")
    ]
    found = like[like.draw == like.draw.min()].set_index("example")
    drawn = [
        found.loc[rng.permutation(images)[:k]].reset_index().assign(draw=number, purpose="random")
        for number in range(1, batches + 1)
    ]
    return pd.concat([outcomes, *drawn], ignore_index=True)


@pytest.mark.parametrize("base", [0.0, 0.4])
@pytest.mark.parametrize("images", [256, 150])
def test_all_wrong_on_150_images_and_in_150_random_batches_is_settled(evaluation, images, base):
    # Two batches alone say nothing of the next ones, the base model met fgsm alone, and no check has passed.
    run = evaluation().add("clean", share(1, images), batch_size=images // 2)
    run.add("transfer-pgd-20", share(0, images), share(0, images), batch_size=images // 2)
    run.add("clean", share(1, images), **BASE).add("fgsm", share(base, images), **BASE)
    outcomes, planned = run.parts()
    few = case_results(outcomes, planned)
    rows = case_results(in_random_batches(outcomes, "transfer-pgd-20", images, images // 2), planned)
    checks = [Check("self-tests", CheckOutcome.NOT_RUN, "")]
    assert ensemble_of(few).interval().kind is None
    found = judge(rows, ensemble_of(rows), checks)
    assert found.name == ("broken" if base == 0 else "worse than its base"), found.reason


def test_a_claim_is_refuted_for_the_images_that_its_interval_is_about(evaluation):
    run = evaluation().add("clean", share(1, 256), batch_size=128)
    run.add("transfer-pgd-20", share(0, 256), share(0, 256), batch_size=128)
    outcomes, planned = run.add("clean", share(1, 256), **BASE).parts()
    rows = case_results(in_random_batches(outcomes, "transfer-pgd-20", 256, 128, batches=6), planned)
    left = ensemble_of(rows).interval()
    assert left.kind == "evaluated images" and left.high < 0.7
    made = judge(rows, ensemble_of(rows), PASSED, claim=Claim(0.7, WHOLE_BATCH, BUDGET))
    assert (made.name, made.refuted_for) == ("claim refuted", "for the evaluated images")
    assert "the claimed 70.0% of answers is refuted for the evaluated images, 0.0% (0.0% to " in made.reason
    stands = judge(rows, ensemble_of(rows), PASSED, claim=Claim(0.1, WHOLE_BATCH, BUDGET))
    assert stands.refuted_for == "" and " for the evaluated images, 254 images) is left" in stands.reason
