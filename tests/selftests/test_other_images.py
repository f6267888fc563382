"""A defence that stores the evaluated images is told from one that is robust."""

import dataclasses

import pytest
import torch
from torch.nn import functional

from robustbench_coded.data.digits import load_digits
from robustbench_coded.selftests.other_images import other_images
from tests.selftests.conftest import EPS, EXAMPLES, Plain, network
from tests.selftests.test_liars import HONEST


@pytest.fixture(scope="module")
def others():
    return load_digits("train").batch(range(EXAMPLES))


def result(world, others, defence, submitted=None, k=EXAMPLES):
    scene = world.scene(defence, k)
    x, y = (values.view_as(like) for values, like in zip(others, (scene.x, scene.y), strict=True))
    return other_images(scene, dataclasses.replace(scene, x=x, y=y), submitted)


def stored(world, otherwise, within=EPS):
    """The label of a stored image that is near, else the answers of a network."""

    def answer(x):
        far, nearest = (x.flatten(1)[:, None] - world.x.flatten(1)).abs().amax(-1).min(1)
        known = 10 * functional.one_hot(world.y[nearest], 10).float()
        return torch.where((far < 1.01 * within)[:, None], known, otherwise(x))

    return answer


def test_stored_images_stand_and_others_do_not(world, others):
    found = result(world, others, stored(world, world.model))
    assert found.outcome == "failed"
    assert found.figures["evaluated"] == 1.0 and found.figures["others"] < 0.2


def test_a_network_whose_gradient_is_hidden_falls_to_what_fools_the_checkpoint(world, others):
    def hidden(x):
        return functional.one_hot(world.model(x).argmax(1), 10).float()

    assert result(world, others, stored(world, hidden)).outcome == "passed"
    assert result(world, others, stored(world, hidden), world.model).outcome == "failed"


@pytest.mark.parametrize("name", HONEST)
def test_honest_defences_stand_alike_on_both(world, others, name):
    k = 8 if name == "rci on small batches" else EXAMPLES
    assert result(world, others, HONEST[name](world.model), world.model, k).outcome == "passed"


def test_so_does_a_robust_network(world, others):
    found = result(world, others, network("digits-pgd-at"), world.model)
    assert found.outcome == "passed" and found.figures["evaluated"] > 0.5


def test_a_rejected_input_stands_and_a_rejected_image_is_not_classified(world, others):
    class Rejecting(Plain):
        abstain = 10

    def rejects(off):
        return Rejecting(lambda x: torch.cat([world.model(x), 100 * off(x)[:, None].float() - 50], 1))

    found = result(world, others, rejects(lambda x: (16 * x).frac().flatten(1).abs().amax(1) > 1e-3))
    assert found.figures == {"evaluated": 1.0, "others": 1.0}
    everything = rejects(lambda x: torch.ones(len(x)))
    assert result(world, others, everything).outcome == "not applicable"


def test_without_other_images_it_says_nothing(world):
    assert other_images(world.scene(world.model), None, None).outcome == "not applicable"
