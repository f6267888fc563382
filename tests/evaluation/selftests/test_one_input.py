"""Randomness that depends on the size of the batch or on the slot fails; honest randomness does not."""

import pytest
import torch

from robustbench_coded.defences.inferences import GaussianNoise, ResizePad
from robustbench_coded.defences.rci import RCI
from robustbench_coded.evaluation.execution.target import draws_of
from robustbench_coded.evaluation.selftests.other_generators import Batches, one_input

K = 48  # more than the scene's


def result_of(world, defence):
    scene = world.scene(defence, 32)

    def answers(x, index):
        with torch.no_grad():
            return defence.logits(x, draws_of(defence, len(x), 0, [0], "scoring", index)[0])

    return one_input(scene, scene.budget.around(scene.x).random_sign(scene.generators), Batches(K, answers))


class BySize:
    """Another network answers small batches; both have noise."""

    name, randomised, batch_dependent = "by-size", True, False

    def __init__(self, model, other):
        self.base, self.noises = model, [GaussianNoise(network, 0.02) for network in (model, other)]

    def sample(self, generator, k):
        return k > 40, self.noises[0].sample(generator, k)

    def logits(self, x, draw):
        large, seed = draw
        return self.noises[large].logits(x, seed)


class FirstSpared(GaussianNoise):
    """No noise in the first slot."""

    def logits(self, x, draw):
        return torch.cat([self.base(x[:1]), super().logits(x, draw)[1:]])


@pytest.mark.parametrize(
    "build", [lambda world: BySize(world.model, world.other), lambda world: FirstSpared(world.model, 0.25)]
)
def test_what_depends_on_its_company_fails(world, build):
    assert result_of(world, build(world)).outcome == "failed"


class SeldomAnother(GaussianNoise):
    """A draw in a million answers otherwise; sums of a batch and of one input are rounded differently."""

    def logits(self, x, draw):
        return self.base(x) * (1 + 1e-7 * len(x)) + (float(draw) < 0)


@pytest.mark.parametrize(
    "build",
    [
        lambda model: SeldomAnother(model, 0.25),
        lambda model: GaussianNoise(model, 0.25),
        lambda model: ResizePad(model, 0.7),
    ],
)
def test_honest_randomness_passes(world, build):
    assert result_of(world, build(world.model)).outcome == "passed"


@pytest.mark.parametrize("build", [lambda world: RCI(world.model, 32, 48), lambda world: world.model])
def test_what_may_depend_on_it_or_draws_nothing_is_not_asked(world, build):
    defence = build(world)
    scene = world.scene(defence)
    assert one_input(scene, scene.x, Batches(32, None)).outcome == "not applicable"
