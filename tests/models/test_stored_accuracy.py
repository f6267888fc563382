"""Accuracies that files state beside their weights."""

import pytest

from robustbench_coded.models.metadata import allowed_shortfall, stored_accuracy


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
    three_errors = pytest.approx(3 * (0.9 * 0.1 / 1024) ** 0.5, rel=0.01)
    for name in ("best_prec1", "Test/Acc", "best_clean_acc", "metrics/test_acc"):
        assert allowed_shortfall(name, 0.9, 1024) == three_errors
    for name in ("acc", "top1", "metrics/acc"):
        assert allowed_shortfall(name, 0.9, 1024) - 0.05 == three_errors


def test_all_images_right_leaves_room_for_one_image():
    assert 1 / 2048 < allowed_shortfall("test_acc", 1.0, 2048) < 0.002
