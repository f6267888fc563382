"""Defences that tell fresh generators, or those of scoring, from others fail; honest randomness does not."""

import pytest
import torch
from torch import nn

from robustbench_coded.defences.inferences import GaussianNoise, ResizePad
from robustbench_coded.defences.rci import RCI
from robustbench_coded.defences.sampling import SamplingModule, UsedSeed
from robustbench_coded.evaluation.execution.target import draws_of
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.evaluation.selftests.other_generators import (
    DRAWS,
    LEVEL,
    Draws,
    chance_of,
    other_generators,
)


def result_of(world, defence):
    scene = world.scene(defence, 32)

    def used(generators):
        draws = [defence.sample(generator, 32) for generator in generators]
        return list(map(UsedSeed, draws)) if isinstance(defence, SamplingModule) else draws

    draws = Draws(lambda index: draws_of(defence, 32, 0, [0], "scoring", index), used, "here")
    return other_generators(scene, scene.budget.around(scene.x).random_sign(scene.generators), draws)


class TwoNoises:
    """Noise or none, by what it sees of its generator."""

    name, randomised, batch_dependent = "two-noises", True, False

    def __init__(self, model, notice):
        self.noise, self.model, self.base, self.notice = GaussianNoise(model, 0.1), model, model, notice

    def sample(self, generator, k):
        told = self.notice(generator)
        return self.noise.sample(generator, k), told

    def logits(self, x, draw):
        seed, told = draw
        return self.noise.logits(x, seed) if told else self.model(x)


def fresh(generator):
    beginning = torch.Generator().manual_seed(generator.initial_seed())
    return torch.equal(generator.get_state(), beginning.get_state())


def small_seed(generator):
    return generator.initial_seed() < 2**32


def of_scoring(generator):
    return generator.initial_seed() in {stream(0, 0, "scoring", i).initial_seed() for i in range(DRAWS)}


@pytest.mark.parametrize("notice", [fresh, small_seed, of_scoring])
def test_what_tells_generators_apart_fails(world, notice):
    found = result_of(world, TwoNoises(world.model, notice))
    assert found.outcome == "failed"
    assert (found.figures["attacker"] < 1e-3) == (notice is of_scoring)


class Peeking(nn.Module):
    """Samples by itself; more where the global generator is at its beginning."""

    randomised, batch_dependent = True, False

    def __init__(self, model, peeks):
        super().__init__()
        self.model, self.peeks = model, peeks

    def forward(self, x):
        strength = 0.2 if self.peeks and fresh(torch.default_generator) else 0.05
        return self.model(x + strength * torch.randn_like(x))


@pytest.mark.parametrize("peeks", [True, False])
def test_a_module_that_samples_sees_the_global_generators(world, peeks):
    found = result_of(world, SamplingModule(Peeking(world.model, peeks), world.model, name="peeking"))
    assert found.outcome == ("failed" if peeks else "passed")


@pytest.mark.parametrize(
    "build",
    [
        lambda model: RCI(model, 32, 48),
        lambda model: GaussianNoise(model, 0.25),
        lambda model: ResizePad(model, 0.7),
        lambda model: TwoNoises(model, lambda generator: True),
    ],
)
def test_honest_randomness_passes(world, build):
    assert result_of(world, build(world.model)).outcome == "passed"


def test_a_deterministic_defence_draws_nothing(world):
    scene = world.scene(world.model)
    assert other_generators(scene, scene.x, None).outcome == "not applicable"


def test_rounding_beside_one_draw_that_fell_otherwise_is_no_difference():
    """Batches of two sizes differ by rounding; the one draw makes their values vary."""
    alone = torch.tensor([9.4, -6.8, 3.0]).repeat(8, 1)
    beside = alone + 6e-6
    beside[2] = torch.tensor([-0.2, 9.4, 1.0])
    assert chance_of(alone, beside) > LEVEL
    assert chance_of(alone, alone + 5 + 0.1 * torch.eye(8)[:, :3]) < LEVEL
