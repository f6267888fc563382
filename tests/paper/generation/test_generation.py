"""WGAN-GP: losses and figures of merit against closed forms, and trainings that go on as if never stopped."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_coded.coding.codec import Codec
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError
from robustbench_coded.paper.generation.report import _cost, beside_plain, last_points
from robustbench_coded.paper.generation.study import Classifier, frechet_distance, inception_score, moments
from robustbench_coded.paper.generation.train import (
    LATENT,
    Critic,
    GanConfig,
    Generator,
    GeneratorPoint,
    critic_loss,
    generator_loss,
    train,
)
from robustbench_coded.paper.studies.over_seeds import Records
from robustbench_coded.paper.training.loader import Progress

pytestmark = pytest.mark.long

CHECKPOINT = Path(__file__).parents[3] / "checkpoints" / "digits-erm.safetensors"


class LinearCritic(nn.Module):
    """Scores w . x, whose gradient is w everywhere."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w))

    def forward(self, x):
        return x.flatten(1) @ self.w


def test_the_penalty_of_a_linear_critic_is_about_the_length_of_its_gradient():
    critic = LinearCritic([3.0, 4.0])
    real, fake = torch.ones(5, 1, 1, 2), torch.zeros(5, 1, 1, 2)
    loss, gap = critic_loss(critic, real, fake, torch.rand(5), penalty=10.0)
    assert float(gap) == pytest.approx(7.0)
    assert float(loss.detach()) == pytest.approx(-7.0 + 10 * (5 - 1) ** 2)
    loss.backward()
    expected = torch.tensor([-1.0, -1.0]) + 10 * 2 * 4 * torch.tensor([3.0, 4.0]) / 5
    torch.testing.assert_close(critic.w.grad, expected)


def test_a_linear_generator_has_the_same_loss_on_both_paths_up_to_the_codecs_error():
    generator = nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (1, 2, 2)))
    critic, z = LinearCritic([1.0, -2.0, 0.5, 1.0]), torch.randn(16, 3)
    plain = generator_loss(generator, critic, z, None, 0.5)
    assert float(plain.detach()) == pytest.approx(-float(critic(generator(z)).mean().detach()))
    coder = Codec(16, 24)
    coded = generator_loss(generator, critic, z, coder, 1.0)
    estimate = coder.decode(coder.encode(z[None]))[0]  # linear maps and the codec commute
    there = critic(generator(estimate)).mean().detach()
    assert float(coded.detach()) == pytest.approx(-float(there), abs=1e-4)
    half = generator_loss(generator, critic, z, coder, 0.5)
    assert float(half.detach()) == pytest.approx(0.5 * float((plain + coded).detach()), abs=1e-5)


@pytest.mark.parametrize("side", LATENT)
def test_images_have_the_size_and_the_range_of_the_data(side):
    generator, critic = Generator(side, 3), Critic(side, 3)
    images = generator(torch.randn(4, generator.latent))
    assert (
        images.shape == (4, 3, side, side) and 0 <= float(images.detach().min()) <= float(images.max()) <= 1
    )
    assert critic(images).shape == (4,)
    # A penalty on single images needs a critic that looks at them one by one.
    torch.testing.assert_close(critic(images)[:1], critic(images[:1]), rtol=1e-4, atol=1e-5)


def test_frechet_distance_of_normals_is_the_closed_form():
    generator = np.random.RandomState(0)
    x = generator.normal(size=(4000, 3))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False)).T)  # moments exact
    scale, shift = np.array([1.0, 2.0, 0.5]), np.array([3.0, 0.0, -1.0])
    expected = (shift**2).sum() + ((1 - scale) ** 2).sum()
    assert frechet_distance(moments(x), moments(x * scale + shift)) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(moments(x), moments(x[::-1])) == pytest.approx(0, abs=1e-6)


def test_the_inception_score_reaches_from_1_to_the_number_of_classes():
    assert inception_score(np.eye(7).repeat(3, axis=0)) == pytest.approx(7)
    assert inception_score(np.full((10, 7), 1 / 7)) == pytest.approx(1)
    assert inception_score(np.eye(7)[[2, 2, 2]]) == pytest.approx(1)  # all alike


CONFIG = GanConfig("digits", n=24, batch_size=16, critic_steps=1, iterations=4, every=2, samples=100)


def trained(folder, iterations, **more):
    from dataclasses import replace

    config = replace(CONFIG, iterations=iterations, **more)
    data = load_data("digits", split="train").subset(np.arange(64))

    def measure(images):
        return float(images.mean()), float(images.std())

    return train(config, data, measure, folder, device=torch.device("cpu"), bar=Progress("", quiet=True))


def figures(points):
    return [point[3:7] for point in points]


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    whole = trained(tmp_path / "whole", 4)
    trained(tmp_path / "parts", 2)
    assert figures(trained(tmp_path / "parts", 4)) == figures(whole)
    assert Records(tmp_path / "parts" / "history.csv", GeneratorPoint).rows[-1].iteration == 4
    shown = (tmp_path / "whole" / "samples.npy").read_bytes()
    assert (tmp_path / "parts" / "samples.npy").read_bytes() == shown
    other = trained(tmp_path / "other", 4, seed=1)
    assert figures(other) != figures(whole)


def test_plain_and_coded_begin_alike_and_part(tmp_path):
    coded, plain = trained(tmp_path / "a", 2, every=1), trained(tmp_path / "b", 2, every=1, n=None)
    # The critic's first steps see the same images and the same generator.
    assert coded[0].gap == plain[0].gap and coded[1].distance != plain[1].distance


def test_another_training_in_the_folder_is_refused(tmp_path):
    trained(tmp_path, 2)
    with pytest.raises(InputError, match="other options"):
        trained(tmp_path, 2, mu=0.25)
    (tmp_path / "gan.state.pt").write_bytes(b"no")
    with pytest.raises(InputError, match="damaged"):
        trained(tmp_path, 2)


def test_differences_are_paired_by_seed_at_the_last_measurement():
    points = [
        GeneratorPoint(variant, n, seed, iteration, seed + (0.5 if n else 0.0), 1.0, 0.0, 1.0, 5.0)
        for variant, n in (("plain", None), ("coded N=64", 64))
        for seed in (0, 1)
        for iteration in ((50, 100) if seed == 0 else (50,))
    ]
    ends = last_points(points)
    assert {p.iteration for of_seed in ends.values() for p in of_seed.values()} == {50}
    less = beside_plain(ends, "coded N=64", lambda p: p.distance)
    assert (less.mean, less.low, less.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("wrong", [{"iterations": 0}, {"n": 2}, {"mu": 1.5}, {"batch_size": 3}])
def test_options_out_of_range_are_named(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} = "):
        GanConfig("digits", **wrong)


def test_every_image_has_features_however_many_a_model_answers_at_once():
    data = load_data("digits")
    classifier = Classifier(CHECKPOINT, data, torch.device("cpu"))
    x = data.batch(range(8))[0].repeat(150, 1, 1, 1)  # more than the model takes in one piece
    features, answers = classifier(x)
    assert len(features) == len(answers) == len(x)
    torch.testing.assert_close(features[:8], classifier(x[:8])[0])


def test_the_cost_of_the_coded_path_does_not_depend_on_what_else_the_machine_did():
    def ends(slower):
        """A coded generator step costs 3 units, a plain one 2, critic steps 10 in both."""
        return {
            "plain": {0: GeneratorPoint("plain", None, 0, 50, 1.0, 1.0, 0.0, 2.0, 10.0)},
            "coded N=64": {
                0: GeneratorPoint("coded N=64", 64, 0, 50, 1.0, 1.0, 0.0, 3.0 * slower, 10.0 * slower)
            },
        }

    for slower in (1.0, 1.7):
        _, coded = _cost(ends(slower)).rows
        assert (coded[2], coded[4]) == ("1.50", f"{13 / 12:.2f}")
