"""Labelled images as a witness, in closed form."""

import math

import pytest
import torch

from robustbench_coded.models.labelled_accuracy import floor, labelled
from robustbench_coded.models.metadata import allowed_shortfall, stored_accuracy


def answers(logits):
    logits = torch.tensor(logits, dtype=torch.float32)
    return lambda x: logits[x[:, 0, 0, 0].long()]


def rows(n):
    return torch.arange(float(n)).view(n, 1, 1, 1)


def test_cross_entropy_is_at_the_best_temperature():
    """Three of four right with margin m: the best scale makes the odds 3 to 1, whatever m is."""
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    for margin in (0.05, 1.0, 40.0):
        said = labelled(answers([[margin, 0.0]] * 4), rows(4), torch.tensor([0, 0, 0, 1]))
        assert said.cross_entropy == pytest.approx(expected, abs=1e-4)
        assert said.temperature == pytest.approx(margin / math.log(3), rel=0.02)
        assert (said.right, said.examples, said.accuracy) == (3, 4, 0.75)


def test_the_interval_is_clopper_and_pearsons():
    labels = torch.zeros(20, dtype=torch.long)
    everything = labelled(answers([[1.0, 0.0]] * 20), rows(20), labels)
    assert everything.interval(0.05) == (pytest.approx(0.025 ** (1 / 20)), 1.0)
    nothing = labelled(answers([[0.0, 1.0]] * 20), rows(20), labels)
    assert nothing.interval(0.05) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))


def test_networks_are_compared_image_by_image():
    labels = torch.zeros(100, dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(100, 2, generator=generator)
    good = labelled(answers((noise + torch.tensor([2.0, 0])).tolist()), rows(100), labels)
    bad = labelled(answers((noise + torch.tensor([1.0, 0])).tolist()), rows(100), labels)
    assert bad.worse_than(good) > 3 > -3 > good.worse_than(bad)
    assert good.worse_than(good) == 0


def test_right_answers_are_compared_where_only_one_is_right():
    """McNemar: 16 images that one answers rightly alone against 0, whatever both answer alike."""
    labels = torch.zeros(100, dtype=torch.long)
    one, other = (
        labelled(answers([[1.0, 0.0]] * right + [[0.0, 1.0]] * (100 - right)), rows(100), labels)
        for right in (96, 80)
    )
    assert other.less_accurate_than(one) == 4 == -one.less_accurate_than(other)
    assert one.less_accurate_than(one) == 0
    assert other.accuracy_of(90) == pytest.approx(80 / 90)


def test_logits_that_are_not_numbers_are_no_right_answers_by_luck():
    said = labelled(answers([[math.nan, math.nan], [math.inf, 0.0]]), rows(2), torch.tensor([1, 0]))
    assert math.isfinite(said.cross_entropy)
    assert said.right == 1


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({}, None),
        ({"epoch": 90, "lr": 0.1}, None),
        ({"best_prec1": 93.62}, ("best_prec1", 0.9362)),
        ({"acc": 0.91, "epoch": 3}, ("acc", 0.91)),
        ({"acc": 80.0, "clean_acc": 82.5}, ("clean_acc", 0.825)),
        ({"Test/Acc": 82.5, "acc": 80.0}, ("Test/Acc", 0.825)),
        ({"accuracy": True}, None),
        ({"accuracy": "0.9"}, ("accuracy", 0.9)),
        ({"clean_acc": "99.5 %"}, ("clean_acc", 0.995)),
        ({"clean_acc": "best"}, None),
        ({"best_clean_acc": 82.5, "acc": 80.0}, ("best_clean_acc", 0.825)),
        ({"val/acc@1": 82.5}, ("val/acc@1", 0.825)),
        ({"metrics/test_acc": 82.5}, ("metrics/test_acc", 0.825)),
        ({"test_top_1": 82.5}, ("test_top_1", 0.825)),
        ({"test_top_5": 99.0, "robust_acc": 45.0, "pgd_accuracy": 45.0, "top": 3, "best_err": 7.0}, None),
        ({"acc": 640.0}, None),
        ({"train_acc": 99.0}, None),
    ],
)
def test_accuracies_beside_the_weights(entries, expected):
    found = stored_accuracy(entries)
    assert found == (expected if expected is None else (expected[0], pytest.approx(expected[1])))


def test_a_name_that_does_not_say_on_which_images_is_let_off_more():
    assert allowed_shortfall("best_prec1") == allowed_shortfall("Test/Acc") == 0.02
    assert allowed_shortfall("best_clean_acc") == allowed_shortfall("metrics/test_acc") == 0.02
    assert allowed_shortfall("acc") == allowed_shortfall("top1") == allowed_shortfall("metrics/acc") == 0.05


def test_below_the_floor_is_near_chance():
    assert floor(10) == pytest.approx(0.19)
    assert floor(2) == pytest.approx(0.55)
    assert floor(10, guessed=True) == pytest.approx(0.28)


def test_more_images_are_added_to_what_is_known():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(50, 3, generator=generator).tolist()
    labels = torch.randint(3, (50,), generator=generator)
    asked = []

    def model(x):
        asked.append(len(x))
        return answers(logits)(x)

    first = labelled(model, rows(20), labels[:20])
    both = labelled(model, rows(50), labels, before=first)
    assert sum(asked) == 50
    at_once = labelled(answers(logits), rows(50), labels)
    assert both == at_once and torch.equal(both.losses, at_once.losses)
    assert at_once.worse_than(first) == -first.worse_than(at_once)  # on the 20 that both have answered
