"""Generated defences of known truth: their proofs hold, and accounts of them are counted rightly."""

import itertools
import random
from dataclasses import replace

import pytest
import torch

from benchmarks.errors import random_truth
from benchmarks.soundness.instances import make
from benchmarks.soundness.networks import (
    ascent,
    check_planted,
    check_robust,
    fill,
    hit_rate,
    plant,
    separated,
)
from benchmarks.soundness.report import Row

SEED = 1


@pytest.fixture(scope="module")
def bare():
    return make("bare-m4", SEED)


def answers(instance, at, seed=0):
    defence, generator = instance.known.defence, torch.Generator().manual_seed(seed)
    batches = at.split(instance.known.k)
    return torch.cat([defence.logits(x, defence.sample(generator, len(x))).argmax(1) for x in batches])


@pytest.mark.parametrize("mechanism", ["bare", "noise", "ensemble", "code", "batch"])
def test_planted_points_in_the_ball_are_answered_wrongly_in_every_draw(mechanism):
    instance = make(f"{mechanism}-m2", SEED)
    x, y, at = instance.known.x, instance.known.y, instance.planted
    assert (at - x).abs().max() <= instance.entry.eps + 1e-6
    assert at.min() >= 0
    assert at.max() <= 1
    for seed in range(5):
        assert bool((answers(instance, x, seed) == y).all())
        assert not bool((answers(instance, at, seed) == y).any())


@pytest.mark.parametrize("mechanism", ["bare", "noise", "ensemble", "code", "batch"])
def test_robust_twins_withstand_corners_and_what_breaks_the_planted_defence(mechanism):
    robust, planted = make(f"{mechanism}-robust", SEED), make(f"{mechanism}-m4", SEED)
    x, y, generator = robust.known.x, robust.known.y, torch.Generator().manual_seed(0)
    assert torch.equal(x, planted.known.x)
    corners = [
        x + robust.entry.eps * (torch.rand(x.shape, generator=generator) - 0.5).sign() for _ in range(5)
    ]
    for at in (*corners, planted.planted):
        assert bool((answers(robust, at.clamp(0, 1)) == y).all())


def test_a_third_of_the_draws_fall_where_one_of_three_members_is_planted():
    instance = make("ensemble-third", SEED)
    right = torch.stack([answers(instance, instance.planted, seed) == instance.known.y for seed in range(40)])
    assert right.float().mean().item() == pytest.approx(2 / 3, abs=0.03)
    assert instance.truth == pytest.approx(2 / 3)


def test_the_checks_refuse_points_and_pits_for_which_the_proof_fails(bare):
    model = bare.known.defence.answer.__closure__[0].cell_contents[0]
    from benchmarks.soundness.instances import scene_of

    scene, bases = scene_of(SEED, 4)
    led = ascent(bases[0], scene.x, scene.y)
    assert check_planted(model, scene, bare.planted)
    assert not check_planted(model, scene, scene.x)
    assert not check_planted(model, replace(scene, eps=0.9 * scene.eps), bare.planted)
    assert check_robust(fill(bases[0], scene, led), scene)
    assert not check_robust(plant(bases[0], scene, led)[0], scene)


def test_the_hit_rate_is_that_of_uniform_starts(bare):
    x, generator = bare.known.x, torch.Generator().manual_seed(0)
    model = make("bare-m2", SEED).known.defence.answer.__closure__[0].cell_contents[0]
    inside = [
        model.depth(x + bare.entry.eps * (2 * torch.rand(x.shape, generator=generator) - 1)).diagonal() > 0
        for _ in range(150)
    ]
    assert torch.stack(inside).float().mean().item() == pytest.approx(hit_rate(2), abs=0.01)


def test_images_closer_than_two_balls_are_not_taken_together():
    x = torch.tensor([0.0, 0.1, 0.5]).reshape(3, 1, 1, 1).expand(3, 1, 8, 8)
    assert separated(x, 0.1).tolist() == [0, 2]


ROW = Row("bare-m2", "csrobust", 0.0, 0.0, 0.0, 0.05, "broken", "pgd-20", 100.0, 1.0)


def test_missed_and_false_breaks_are_told_from_open_verdicts_and_chance():
    assert not ROW.missed
    assert not ROW.false
    assert replace(ROW, verdict="no failure found").positive
    assert replace(ROW, accuracy=0.06).missed and not replace(ROW, accuracy=0.06).positive
    assert replace(ROW, verdict="not settled").open
    assert replace(ROW, verdict="not settled", accuracy=0.2).missed
    robust = replace(ROW, truth=0.85, accuracy=0.8, low=0.7, high=0.9, verdict="no failure found")
    assert not robust.false
    assert replace(robust, high=0.84).false
    assert replace(robust, verdict="broken").false


class Few(random.Random):
    """Draws keyholes on one or two pixels, on a quarter of the images of honest instances."""

    def choice(self, choices):
        return super().choice([one for one in choices if one in (1, 2, 0.5, 0.25)] or choices)


@pytest.mark.parametrize("family", random_truth.FAMILIES)
@pytest.mark.parametrize("kind", ["honest", "broken"])
def test_truths_of_random_defences_are_what_the_worst_corner_leaves(family, kind):
    attempts = (random_truth.make(f"{family}-{kind}-0", Few(i), None) for i in range(20))
    setting, defence, truth = next(one for one in attempts if "pixels" in one[0].about)
    holes, x = setting.members[0], setting.x.flatten(1)
    least = torch.ones(len(x))
    for signs in itertools.product((-1, 1), repeat=holes.pixels.shape[1]):
        moved = x.gather(1, holes.pixels) + setting.eps * torch.tensor(signs)
        at = x.scatter(1, holes.pixels, moved.clamp(0, 1)).view_as(setting.x)
        least = least.minimum(right_share(defence, at, setting.y))
    assert least.mean().item() == pytest.approx(truth, abs=0.1)


def right_share(defence, x, y, draws=12):
    """The share of answers that are right, of each image, [n]."""
    generator, k = torch.Generator().manual_seed(1), random_truth.BATCH if defence.batch_dependent else len(x)
    asked = [
        torch.cat([defence.logits(b, defence.sample(generator, len(b))).argmax(1) for b in x.split(k)]) == y
        for _ in range(draws)
    ]
    return torch.stack(asked).float().mean(0)


def test_bounds_of_blocks_are_reached_by_brute_force():
    p = random.Random(1)
    setting, _ = random_truth.of_blocks(p, 2, fragile=False)
    lead = random_truth.leads(setting.members, setting.x, setting.y)
    for member, own in zip(setting.members, lead, strict=True):
        worst = torch.full_like(own, torch.inf)
        for other in range(setting.classes):  # one block darker, one brighter, all others as they are
            at = setting.x.clone()
            for classes, sign in ((setting.y, -1), (torch.full_like(setting.y, other), 1)):
                for i, c in enumerate(classes.tolist()):
                    row, column = 8 * (c // 4), 8 * (c % 4)
                    at[i, :, row : row + 8, column : column + 8] += sign * (setting.eps + setting.shift)
            found = random_truth.leads([member], at, setting.y)[0]
            worst = worst.minimum(torch.where(setting.y == other, worst, found))
        assert torch.allclose(worst, own - 2 * (setting.eps + setting.shift), atol=1e-5) and worst.min() > 0
