from dataclasses import replace

import numpy as np
import pytest

from robustbench_coded.judge.ensemble import PlayableAttack, aligned, ensemble, strongest, worst_case
from robustbench_coded.judge.intervals import accuracy_interval
from robustbench_coded.judge.outcomes import Cell
from robustbench_coded.schema.case import WHOLE_BATCH, Case, Perturbation, Subject

KEY = Case(Subject("erm", "rci", 16, 24), WHOLE_BATCH, Perturbation("linf", 0.1, "pixel"), "")


def cell(correct, ids=None):
    correct = np.asarray(correct)
    ids = np.arange(len(correct)) if ids is None else ids
    return Cell(
        ids, ids // 16, np.zeros(len(correct), int), np.arange(correct.shape[1]), (~correct).astype(np.int32)
    )


def attacks(chances, draws=10, seed=0):
    """Candidates with independent draws; ``chances`` [attacks, examples] of a right answer."""
    rng = np.random.default_rng(seed)
    chances = np.asarray(chances)[:, :, None]
    seen, scored = (rng.random((*chances.shape[:2], draws)) < chances for _ in range(2))
    return [
        PlayableAttack(KEY.of_attack(f"a{i}"), cell(s), cell(f)) for i, (s, f) in enumerate(zip(seen, scored))
    ]


def accuracy(made):
    return made.correct.mean()


def interval(made):
    return accuracy_interval(made.correct, made.example, batch_dependent=False)


def test_noise_is_no_attack():
    # Twelve attacks that do nothing to a classifier that is wrong in one draw of ten.
    trials = [attacks(np.full((12, 640), 0.9), seed=seed) for seed in range(20)]
    unbiased = [accuracy(ensemble(noise, strongest(noise), by_batch=False)) for noise in trials]
    assert np.mean(unbiased) == pytest.approx(0.9, abs=0.0025)  # three standard errors
    held = [interval(ensemble(noise, strongest(noise), by_batch=False)) for noise in trials]
    assert sum(made.low <= 0.9 <= made.high for made in held) >= 17


def half_broken():
    """The first two attacks break a quarter of the examples each; the rest is noise: the truth is 0.45."""
    chances = np.full((12, 640), 0.9)
    chances[0, :160] = chances[1, 160:320] = 0.0
    return attacks(chances)


def test_choosing_per_example_does_not_count_noise_as_success():
    broken = half_broken()
    made = interval(ensemble(broken, strongest(broken), by_batch=False))
    assert made.low <= 0.45 <= made.high


def test_choosing_on_the_draws_that_are_scored_would_be_seen():
    # The fault that the test above is for, planted.
    faulty = [replace(candidate, selection=candidate.scoring) for candidate in half_broken()]
    assert interval(ensemble(faulty, strongest(faulty), by_batch=False)).high < 0.42


@pytest.mark.parametrize("seed", range(5))
def test_an_ensemble_is_not_weaker_than_its_strongest_attack(seed):
    # Between attacks that differ in strength but not by example, choosing per example only loses.
    ladder = attacks(np.repeat(np.linspace(0.5, 0.7, 12)[:, None], 640, axis=1), seed=seed)
    best = strongest(ladder)
    assert best == 0
    made = interval(ensemble(ladder, best, by_batch=False))
    assert made.low <= accuracy(ladder[best].scoring)


def test_attacks_that_break_different_examples_add_up():
    chances = np.full((4, 640), 0.95)
    for attack in range(4):
        chances[attack, attack::4] = 0.05
    split = attacks(chances)
    best = strongest(split)
    assert accuracy(split[best].scoring) > 0.6
    assert accuracy(ensemble(split, best, by_batch=False)) == pytest.approx(0.05, abs=0.02)


def test_ensemble_by_hand():
    selection = [[[1, 1], [0, 0], [0, 1]], [[0, 0], [1, 1], [1, 0]], [[1, 1], [1, 1], [0, 0]]]
    scoring = [[[1, 0], [1, 1], [0, 0]], [[0, 1], [0, 0], [1, 1]], [[0, 0], [0, 0], [1, 0]]]
    by_hand = [
        PlayableAttack(KEY, cell(np.array(s, bool)), cell(np.array(f, bool)))
        for s, f in zip(selection, scoring)
    ]
    assert strongest(by_hand) == 0
    made = ensemble(by_hand, 0, by_batch=False)
    # Example 0 goes to the second attack, 1 to the first, 2 to the third.
    assert made.correct.tolist() == [[False, True], [True, True], [True, False]]


def test_ties_go_to_the_strongest():
    same = np.zeros((3, 8, 4), bool)
    same[0, 0] = True
    tied = [PlayableAttack(KEY, cell(s), cell(np.full((8, 4), i == 2))) for i, s in enumerate(same)]
    # Attacks 1 and 2 tie everywhere; whichever is called the strongest is taken, and no other.
    assert not ensemble(tied, 1, by_batch=False).correct.any()
    assert ensemble(tied, 2, by_batch=False).correct.all()


def test_worst_case_is_the_minimum_over_attacks_in_every_draw():
    made = attacks(np.random.default_rng(1).random((5, 60)))
    expected = np.min([candidate.scoring.correct for candidate in made], axis=0)
    assert (worst_case(made, by_batch=False).correct == expected).all()


def test_alignment_keeps_what_every_candidate_has():
    few, many = np.arange(4, 12), np.arange(16)
    correct = np.random.default_rng(0).random((16, 6)) < 0.5
    whole = PlayableAttack(KEY, cell(correct, many), cell(correct, many))
    part = PlayableAttack(KEY, cell(correct[4:12, :3], few), cell(correct[4:12, :2], few))
    one, other = aligned([whole, part])
    assert one.selection.example.tolist() == other.scoring.example.tolist() == few.tolist()
    assert (one.selection.correct == correct[4:12, :3]).all()
    assert (one.scoring.correct == other.scoring.correct).all()


def half_of_each_batch(draws=4, flips=False):
    """Two attacks that break one half of every batch of 16 each; with ``flips``, which half differs by
    draw."""
    first = np.arange(320)[:, None] % 16 < 8
    turned = (np.arange(320)[:, None] // 16 + np.arange(draws)) % 2 == 0 if flips else np.array(False)
    kept = np.broadcast_to(first ^ turned, (320, draws))
    return [
        PlayableAttack(KEY.of_attack(name), cell(right), cell(right))
        for name, right in (("a", kept), ("b", ~kept))
    ]


def test_half_of_every_batch_that_survives_by_design_reads_50():
    halves = half_of_each_batch()
    assert accuracy(ensemble(halves, strongest(halves), by_batch=True)) == 0.5
    assert accuracy(worst_case(half_of_each_batch(flips=True), by_batch=True)) == 0.5
    # Chosen per example, the outcomes come from two batches that cannot both be submitted.
    assert accuracy(ensemble(halves, strongest(halves), by_batch=False)) == 0.0
    assert accuracy(worst_case(halves, by_batch=False)) == 0.0


def test_every_outcome_of_a_batch_comes_from_one_attack():
    chances = np.random.default_rng(3).random((5, 20)).repeat(16, axis=1)
    made = attacks(chances)
    labelled = [
        replace(
            candidate,
            scoring=replace(candidate.scoring, prediction=np.where(candidate.scoring.correct, 0, number)),
        )
        for number, candidate in enumerate(made, start=1)
    ]
    found = ensemble(labelled, strongest(labelled), by_batch=True)
    for batch in range(20):
        assert len(set(found.prediction[found.batch == batch].ravel()) - {0}) <= 1
    # The lowest chance of each batch, near enough.
    assert accuracy(found) == pytest.approx(chances.min(axis=0).mean(), abs=0.03)
    each = worst_case(labelled, by_batch=True)
    for draw in range(10):
        assert len(set(each.prediction[each.batch == 7, draw]) - {0}) <= 1
    totals = [candidate.scoring.correct.reshape(20, 16, 10).sum(axis=1) for candidate in labelled]
    assert (each.correct.reshape(20, 16, 10).sum(axis=1) == np.min(totals, axis=0)).all()


def test_noise_is_no_attack_for_whole_batches_either():
    trials = [attacks(np.full((12, 640), 0.9), seed=seed) for seed in range(20)]
    made = [accuracy(ensemble(noise, strongest(noise), by_batch=True)) for noise in trials]
    assert np.mean(made) == pytest.approx(0.9, abs=0.0025)
