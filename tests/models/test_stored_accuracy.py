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
    assert allowed_shortfall("best_prec1") == allowed_shortfall("Test/Acc") == 0.02
    assert allowed_shortfall("best_clean_acc") == allowed_shortfall("metrics/test_acc") == 0.02
    assert allowed_shortfall("acc") == allowed_shortfall("top1") == allowed_shortfall("metrics/acc") == 0.05
