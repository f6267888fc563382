"""A defence that stores the evaluated images is told from one that is robust."""

import dataclasses

import pytest
import torch
from torch.nn import functional

from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.evaluation.selftests.other_images import blends, other_images
from tests.evaluation.selftests.conftest import EPS, EXAMPLES, Plain, network
from tests.evaluation.selftests.test_liars import HONEST


@pytest.fixture(scope="module")
def others():
    return load_digits("train").batch(range(EXAMPLES))


@pytest.fixture(scope="module")
def means():
    return blends(*load_digits("train").batch(range(4 * EXAMPLES)), EXAMPLES, 16)


def result(world, others, defence, submitted=None, k=EXAMPLES, means=None):
    scene = world.scene(defence, k)

    def shown(images):
        x, y = (values.view_as(like) for values, like in zip(images, (scene.x, scene.y), strict=True))
        return dataclasses.replace(scene, x=x, y=y)

    return other_images(scene, shown(others), submitted, None if means is None else shown(means))


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
def test_honest_defences_stand_alike_everywhere(world, others, means, name):
    k = 8 if name == "rci on small batches" else EXAMPLES
    assert result(world, others, HONEST[name](world.model), world.model, k, means).outcome == "passed"


def test_so_does_a_robust_network(world, others, means):
    found = result(world, others, network("digits-pgd-at"), world.model, means=means)
    assert found.outcome == "passed" and found.figures["evaluated"] > 0.5 and found.figures["blends"] > 0.5


def test_stored_images_of_the_whole_data_set_are_told_by_means_of_two(world, others, means):
    x, y = (torch.cat(parts) for parts in zip((world.x, world.y), others, strict=True))
    knows = stored(dataclasses.replace(world, x=x, y=y), world.model)
    assert result(world, others, knows, world.model).outcome == "passed"
    found = result(world, others, knows, world.model, means=means)
    assert found.outcome == "failed" and found.figures["others"] == 1.0 and found.figures["blends"] < 0.2


def test_so_is_a_nearest_neighbour_among_all_of_them(world, others, means):
    x, y = (torch.cat(parts) for parts in zip((world.x, world.y), others, strict=True))
    knows = stored(dataclasses.replace(world, x=x, y=y), world.model, within=1.0)
    found = result(world, others, knows, world.model, means=means)
    assert found.outcome == "failed" and found.figures["evaluated"] == found.figures["others"] == 1.0


def test_means_that_are_not_like_the_data_are_not_compared(world, others, means):
    x, y = means
    assert "blends" in result(world, others, world.model, world.model, means=means).figures
    y = torch.cat(
        [(y[:8] + 1) % 10, y[8:]]
    )  # 24 of 32 are enough to be compared, and too few to be like them
    assert "blends" not in result(world, others, world.model, world.model, means=(x, y)).figures


def test_means_are_not_compared_without_a_checkpoint_which_says_what_they_are(world, others, means):
    assert "blends" not in result(world, others, world.model, means=means).figures
    assert "blends" in result(world, others, world.model, world.model, means=means).figures


def test_a_blend_is_the_mean_of_two_images_of_a_class_and_each_serves_once():
    x = torch.tensor([0, 1, 4, 7, 8, 16]).view(6, 1, 1, 1) / 16
    mean, label = blends(x, torch.tensor([3, 5, 3, 5, 3, 3]), 9, 16)
    assert (mean.flatten() * 16).tolist() == [2, 4, 12] and label.tolist() == [3, 5, 3]
    assert len(blends(x, torch.arange(6), 9, 16)[0]) == 0
    assert len(blends(x, torch.zeros(6, dtype=torch.int64), 2, 16)[0]) == 2
    # 7 and 16 lie between two levels; floats have none.
    assert blends(x[[3, 5]], torch.tensor([1, 1]), 1, 1)[0].item() * 16 == 11.5
    assert blends(x[[3, 5]], torch.tensor([1, 1]), 1, 16)[0].item() * 16 == 12


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
