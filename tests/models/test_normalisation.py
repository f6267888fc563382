"""Normalisations as text, and as the known ones."""

import math

import pytest
import torch

from robustbench_coded.errors import InputError
from robustbench_coded.models.normalisation import (
    KNOWN,
    Normalisation,
    named,
    parse_normalisation,
)
from robustbench_coded.models.recognition import Form


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
    with pytest.raises(InputError, match=r"expected none, mnist, .*, imagenet, .* or m,m,m/s,s,s"):
        parse_normalisation(text, 3)


@pytest.mark.parametrize(
    ("text", "channels", "message"),
    [
        ("cifar10", 1, "not for 1 channels; those are none, mnist, .* or m/s"),
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


def test_a_form_is_described_as_a_sentence_ends():
    described = [
        str(Form("resnet20", one))
        for one in (KNOWN[3]["imagenet"], KNOWN[1]["none"], Normalisation("custom", (0.5,), (0.25,)))
    ]
    assert described == [
        "resnet20 with normalisation imagenet",
        "resnet20 without normalisation",
        "resnet20 with normalisation 0.5/0.25",
    ]
