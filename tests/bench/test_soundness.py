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
    plant,
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


ROW = Row("bare-m2", "csrobust", 0.0, 0.0, 0.0, 0.05, "broken", "pgd-20", 100.0, 1.0)


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
