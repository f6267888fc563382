"""Normalisations as text, and the guess among the known ones."""

import math

import pytest
import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.guessing import guess_normalisation
from robustbench_coded.models.normalisation import (
    KNOWN,
    Normalisation,
    NormalisationChoice,
    named,
    parse_normalisation,
)


@pytest.mark.parametrize(
    ("text", "channels", "mean", "std"),
    [
        ("none", 3, (0, 0, 0), (1, 1, 1)),
        ("none", 1, (0,), (1,)),
        ("cifar10", 3, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        ("cifar10-2023", 3, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        ("imagenet", 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("0.5,0.4,0.3/0.1,0.2,0.3", 3, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)),
        ("0.5/0.25", 1, (0.5,), (0.25,)),
    ],
)
def test_what_the_option_takes(text, channels, mean, std):
    found = parse_normalisation(text, channels)
    assert (found.mean, found.std) == (mean, std)


@pytest.mark.parametrize(
    "text", ["", "cifar", "0.5", "0.5/0", "0.5/-1", "nan/1", "0/inf", "1,2/1", "a/b", "0,0,0/1"]
)
def test_other_text_is_refused(text):
    with pytest.raises(
        InputError, match=r"expected none, mnist, cifar10, cifar10-2023, imagenet or m,m,m/s,s,s"
    ):
        parse_normalisation(text, 3)


@pytest.mark.parametrize(
    ("text", "channels", "message"),
    [
        ("cifar10", 1, "not for 1 channels; those are none, mnist or m/s"),
        ("mnist", 3, "not for 3 channels"),
        ("0.5/0.5", 3, "is for 1 channels, the checkpoint has 3"),
    ],
)
def test_another_number_of_channels_is_refused(text, channels, message):
    with pytest.raises(InputError, match=message):
        parse_normalisation(text, channels)


def test_numbers_get_their_known_name_back_from_float32_and_from_no_farther():
    mean, std = (
        tuple(torch.tensor(values).tolist()) for values in (KNOWN[3]["imagenet"].mean, (0.229, 0.224, 0.225))
    )
    assert mean != KNOWN[3]["imagenet"].mean
    assert named(mean, std) == KNOWN[3]["imagenet"]
    assert named((0.485, 0.456, 0.406), (0.229, 0.224, 0.226)).name == "custom"


@pytest.mark.parametrize(
    ("mean", "std"), [((), ()), ((0.5,), (0.5, 0.5)), ((0.5,), (0.0,)), ((math.nan,), (1.0,))]
)
def test_impossible_numbers_are_refused(mean, std):
    with pytest.raises(ValueError, match="expected"):
        Normalisation("custom", mean, std)


class Threshold(nn.Module):
    """Two classes by the mean of the normalised image, with a known slope: the loss depends on the scale."""

    def __init__(self, slope: float):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        score = self.slope * x.mean((1, 2, 3))
        return torch.stack([-score, score], dim=1)


def constant_images(levels):
    return torch.tensor(levels)[:, None, None, None].expand(-1, 3, 4, 4)


def test_the_guess_is_the_least_cross_entropy_whatever_the_accuracy():
    """Images of 0.1 and 0.44: each candidate but `none` parts them, and each with another confidence."""
    levels = [0.1, 0.44] * 8
    labels = torch.tensor([0, 1] * 8)
    choice = guess_normalisation(Threshold(1.0), constant_images(levels), labels, classes=2, arch="threshold")
    scores = {}
    for name, known in KNOWN[3].items():
        shift = sum(m / s for m, s in zip(known.mean, known.std)) / 3
        scale = sum(1 / s for s in known.std) / 3
        margins = [(1 if label else -1) * 2 * (level * scale - shift) for level, label in zip(levels, labels)]
        loss = sum(math.log1p(math.exp(-margin)) for margin in margins) / len(margins)
        scores[name] = (loss, sum(margin > 0 for margin in margins) / len(margins))
    expected = sorted(scores, key=lambda name: scores[name][0])
    assert [name for name, _, _ in choice.candidates] == expected
    for name, loss, accuracy in choice.candidates:
        assert (loss, accuracy) == pytest.approx(scores[name], abs=1e-6)
    assert (choice.name, choice.source, choice.examples) == (expected[0], "guessed", 16)
    least = scores[expected[0]][0]
    assert choice.not_separable == tuple(name for name in expected[1:] if scores[name][0] <= least + 0.02)


def test_a_flat_network_separates_nothing():
    choice = guess_normalisation(
        Threshold(0.0), constant_images([0.5] * 4), torch.zeros(4).long(), classes=2, arch=""
    )
    assert len(choice.not_separable) == 3
    assert choice.candidates[0][1] == pytest.approx(math.log(2))


def test_only_the_first_512_images_are_read():
    images = constant_images([0.1] * 512 + [0.9] * 100)
    labels = torch.zeros(612, dtype=torch.long)
    choice = guess_normalisation(Threshold(1.0), images, labels, classes=2, arch="")
    assert choice.examples == 512
    assert choice.candidates[0][2] == 1.0


def test_one_channel_has_its_own_candidates():
    choice = guess_normalisation(
        Threshold(1.0), constant_images([0.1])[:, :1], torch.zeros(1).long(), classes=2, arch=""
    )
    assert {name for name, _, _ in choice.candidates} == {"none", "mnist"}


def test_a_choice_prints_its_figures():
    choice = NormalisationChoice(
        "imagenet",
        (0.485,),
        (0.229,),
        "guessed",
        512,
        (("imagenet", 0.416, 0.904), ("cifar10", 0.42, 0.91)),
        ("cifar10",),
    )
    assert str(choice) == (
        "normalisation imagenet (0.485/0.229), guessed: mean cross-entropy (accuracy) on 512 labelled images "
        "is imagenet 0.416 (90.40%), cifar10 0.420 (91.00%); not separable from cifar10, "
        "--normalize says which is right"
    )
    assert str(NormalisationChoice("none", (0.0,), (1.0,), "stored")) == "normalisation none (0/1), stored"
