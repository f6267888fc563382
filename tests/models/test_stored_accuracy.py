"""Accuracies that files state beside their weights."""

import pytest

from robustbench_coded.models.archive import stored_accuracy


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"epoch": 90, "lr": 0.1}, None),
        ({"best_prec1": 93.62}, ("best_prec1", 0.9362)),
        ({"acc": 80.0, "clean_acc": 82.5}, ("clean_acc", 0.825)),
        ({"Test/Acc": 0.825}, ("Test/Acc", 0.825)),
        ({"val/acc@1": 82.5}, ("val/acc@1", 0.825)),
        ({"test_top_5": 99.0, "robust_acc": 45.0, "pgd_accuracy": 45.0, "train_acc": 99.0}, None),
        ({"accuracy": True, "clean_acc": "best", "acc": 640.0}, None),
    ],
)
def test_accuracies_beside_the_weights(entries, expected):
    found = stored_accuracy(entries)
    assert found == (expected if expected is None else (expected[0], pytest.approx(expected[1])))
