"""Where a constant answer is right on nearly everything, keeping no more than it is no negative verdict."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from robustbench_coded.judge.checks import Check
from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.judge import judge
from robustbench_coded.judge.outcomes import Cell, floor_of, uninformative
from robustbench_coded.schema.case import WHOLE_BATCH
from robustbench_coded.schema.words import ENSEMBLE

PASSED = (Check("another loss", "passed", ""),)
DEFENCE = {"defence": "alone", "k": None, "n": None, "randomised": False, "batch_dependent": False}


def judged(evaluation, labels, clean, attacked):
    """The verdict on a network without a base model: its answers to clean and to perturbed inputs."""
    labels = np.asarray(labels)
    run = evaluation().add("clean", np.ones((len(labels), 1)), **DEFENCE)
    outcomes, planned = run.add("pgd-10", np.ones((len(labels), 1)), **DEFENCE).parts()
    outcomes["label"] = labels[outcomes.example]
    for attack, answers in (("clean", clean), ("pgd-10", attacked)):
        rows = outcomes.attack == attack
        outcomes.loc[rows, "prediction"] = np.asarray(answers)[outcomes.example[rows]]
    results = case_results(outcomes, [structs.replace(record, has_base=False) for record in planned])
    (ensemble,) = [r for r in results if r.case.attack == ENSEMBLE and r.case.threat == WHOLE_BATCH]
    return judge(results, ensemble, PASSED), ensemble


UNEVEN = np.where(np.arange(400) % 20 == 0, 1, 0)  # 95:5
EVEN = np.arange(400) % 10
THREE = np.repeat([0, 1, 2], [128, 69, 59])  # 50:27:23
FOUR_TO_ONE = np.repeat([0, 1], [640, 160])
NINE_TO_ONE = np.repeat([0, 1], [900, 100])


def wrong(labels, share):
    """The labels with this share of the answers moved to the next class."""
    answers = np.array(labels)
    answers[: round(share * len(answers))] += 1
    return answers


@pytest.mark.parametrize(
    ("labels", "clean", "attacked"),
    [
        (np.zeros(64), np.zeros(64), np.zeros(64)),  # a sorted folder: one class
        (np.zeros(64), np.zeros(64), wrong(np.zeros(64), 0.1)),
        (np.zeros(1), np.zeros(1), np.zeros(1)),  # one image
        (np.zeros(64), np.ones(64), np.ones(64)),  # and where no answer is right
        (UNEVEN[:104], UNEVEN[:104], wrong(UNEVEN[:104], 0.04)),
        (np.repeat([0, 1], [100, 4]), np.repeat([0, 1], [100, 4]), np.repeat([0, 0], [100, 4])),
        (UNEVEN, np.zeros(400), np.zeros(400)),  # a constant that is right on 95%
        (np.arange(2), np.zeros(2), np.zeros(2)),  # one slip in two images
    ],
)
def test_images_that_cannot_show_it_leave_the_verdict_open(evaluation, labels, clean, attacked):
    made, _ = judged(evaluation, labels, clean, attacked)
    assert made.name in ("not settled", "no failure found")
    assert not made.constant
    assert made.rule == "interval contains the threshold"
    assert made.reason.endswith(("images of more classes would settle it.", "expected to settle it."))


def right_on(labels, count):
    """The most frequent class, but for the first ``count`` labels of others, which are right."""
    return np.where(np.cumsum(labels != 0) <= count, labels, 0)


REJECTED = np.arange(800) % 10 == 0


@pytest.mark.parametrize(
    ("labels", "clean", "attacked", "verdict"),
    [
        (THREE, THREE, right_on(THREE, 8), "not settled"),  # 53.1%, where a constant keeps 50%
        (FOUR_TO_ONE, right_on(FOUR_TO_ONE, 144), right_on(FOUR_TO_ONE, 0), "broken"),  # the rarer fall
        (NINE_TO_ONE, right_on(NINE_TO_ONE, 50), right_on(NINE_TO_ONE, 0), "not settled"),
        # A constant that rejects a tenth, as the defence does, keeps 72%.
        (FOUR_TO_ONE, np.where(REJECTED, -1, FOUR_TO_ONE), np.where(REJECTED, -1, 0), "broken"),
        (FOUR_TO_ONE, FOUR_TO_ONE, wrong(FOUR_TO_ONE, 0.05), "no failure found"),
    ],
)
def test_what_the_most_frequent_class_keeps_is_no_robustness(evaluation, labels, clean, attacked, verdict):
    made, _ = judged(evaluation, labels, clean, attacked)
    assert made.name == verdict, made.reason


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**31))
def test_the_floor_of_classes_of_equal_shares_is_the_exchanged_accuracy(classes, each, draws, seed):
    """Also where it rejects inputs, as -1 or in a class of its own, which no example has."""
    label = np.repeat(np.arange(classes), each)
    generator, at = np.random.default_rng(seed), np.arange(classes * each)
    answers = generator.integers(-1, classes + 2, (len(at), draws))
    answers = np.where(generator.random(answers.shape) < generator.random(), label[:, None], answers)
    pairs = (answers[:, None, :] == label[None, :, None]).sum() - (answers == label[:, None]).sum()
    floor = floor_of(Cell(at, at, label, np.arange(draws), answers.astype(np.int32)))
    assert floor == pytest.approx(pairs / (draws * len(at) * max(len(at) - 1, 1)))


def test_a_class_that_is_more_frequent_by_chance_raises_no_floor():
    label, at = np.random.default_rng(0).integers(0, 10, 128), np.arange(128)
    assert np.bincount(label).max() / 128 > 0.13
    assert floor_of(Cell(at, at, label, np.arange(1), label[:, None].astype(np.int32))) < 0.11


def test_images_of_one_class_name_the_remedy(evaluation):
    made, _ = judged(evaluation, np.zeros(64), np.zeros(64), np.zeros(64))
    assert "images of more classes would settle it" in made.reason
    assert (made.name, made.rule, made.tells) == ("not settled", "interval contains the threshold", False)


@pytest.mark.parametrize(
    ("clean", "attacked", "rule"),
    [
        (np.zeros(400), np.zeros(400), "constant predictions"),
        (EVEN, np.zeros(400), "accuracy at chance level"),
        (EVEN, wrong(EVEN, 0.1), "nothing found"),
    ],
)
def test_on_ten_balanced_classes_a_constant_is_broken_and_a_good_network_is_not(
    evaluation, clean, attacked, rule
):
    made, _ = judged(evaluation, EVEN, clean, attacked)
    assert made.rule == rule or (rule == "nothing found" and made.above_the_bar)


def test_uneven_classes_make_no_good_network_a_constant_one(evaluation):
    """At 95:5 right answers to everything are within 5 points of a constant's."""
    _, ensemble = judged(evaluation, UNEVEN, UNEVEN, UNEVEN)
    assert not uninformative(ensemble.clean, 1.0)
    assert not uninformative(ensemble.clean, 0.91)
    assert uninformative(ensemble.clean, 0.89)  # who answers fewer than a constant does
    _, even = judged(evaluation, EVEN, EVEN, EVEN)
    assert uninformative(replace(even.clean, prediction=np.zeros((400, 1), np.int32)), 0.14)
    assert not uninformative(even.clean, 0.16)
