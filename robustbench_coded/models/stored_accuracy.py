"""The accuracy that a training program stored beside the weights. Imports no torch."""

import re
from collections.abc import Mapping
from typing import Any

# Names of the accuracy on test or validation images.
ON_TEST_IMAGES = (
    "best_prec1", "best_acc1", "best_acc", "best_accuracy", "best_top1", "best_test_acc", "best_val_acc",
    "clean_acc", "clean_accuracy", "natural_acc", "nat_acc", "standard_acc", "standard_accuracy", "test_acc",
    "test_acc1", "test_accuracy", "test_prec1", "test_top1", "test_clean_acc", "test_standard_acc",
    "test_natural_acc", "val_acc", "val_acc1", "val_accuracy", "val_prec1", "val_top1", "valid_acc",
    "eval_acc", "eval_accuracy",
)  # fmt: skip

# Names that do not say on which images; the training images are possible.
ON_ANY_IMAGES = ("acc", "acc1", "accuracy", "prec1", "top1", "top1_acc")

# How far the network may fall short of what its file states, in [0, 1]. The weights are the last epoch's and
# the figure the best one's, or the images are others: on test images that is less than 2 points (published
# files here: 0.3 at most). Training images are answered better by a few points more; a larger gap cannot be
# told from a network that was put together wrongly.
SHORTFALL_ON_TEST_IMAGES = 0.02
SHORTFALL_ON_ANY_IMAGES = 0.05


def is_accuracy(name: str) -> bool:
    """Whether an entry of that name is an accuracy, however it is spelt: ``test/acc``, ``Best_Prec1``."""
    return _spelt(name) in ON_TEST_IMAGES + ON_ANY_IMAGES


def allowed_shortfall(name: str) -> float:
    """How far below the stated accuracy the measured one may be, by the entry's name."""
    return SHORTFALL_ON_TEST_IMAGES if _spelt(name) in ON_TEST_IMAGES else SHORTFALL_ON_ANY_IMAGES


def stored_accuracy(entries: Mapping[str, Any]) -> tuple[str, float] | None:
    """The entry to believe among the values beside the weights, as a fraction in [0, 1].

    One on test images comes before one that does not say.
    """
    spelt = {_spelt(name): name for name in reversed(list(entries)) if isinstance(name, str)}
    for known in ON_TEST_IMAGES + ON_ANY_IMAGES:
        value = entries.get(spelt.get(known, known))
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 100:
            return spelt[known], float(value) if value <= 1 else value / 100
    return None


def _spelt(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
