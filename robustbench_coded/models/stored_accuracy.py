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

# Words of further names, as ``best_clean_acc`` or ``metrics/val_acc@1``: each has one of the first row, and
# others of these alone. A word that is not here, as ``train``, ``robust`` or ``pgd``, is another figure.
_ACCURACY = frozenset({"acc", "acc1", "accuracy", "prec1", "top1", "prec", "top"})
_IMAGES = frozenset(
    {"test", "val", "valid", "validation", "eval", "clean", "natural", "nat", "standard", "std"}
)
_BESIDE = frozenset({"best", "final", "last", "max", "1", "metric", "metrics", "result", "results", "stats"})

# How far the network may fall short of what its file states, in [0, 1]. The weights are the last epoch's and
# the figure the best one's, or the images are others: on test images that is less than 2 points (published
# files here: 0.3 at most). Training images are answered better by a few points more; a larger gap cannot be
# told from a network that was put together wrongly.
SHORTFALL_ON_TEST_IMAGES = 0.02
SHORTFALL_ON_ANY_IMAGES = 0.05


def is_accuracy(name: str) -> bool:
    """Whether an entry of that name is an accuracy, however it is spelt: ``test/acc``, ``Best_Prec1``."""
    words = _words(name)
    ranked = {"prec", "top"} & words  # top_5 is another figure, top alone none
    return (
        bool(words & _ACCURACY)
        and words <= _ACCURACY | _IMAGES | _BESIDE
        and (not ranked or "1" in words or bool(words & {"acc1"}))
    )


def allowed_shortfall(name: str) -> float:
    """How far below the stated accuracy the measured one may be, by the entry's name."""
    of_test_images = _spelt(name) in ON_TEST_IMAGES or _words(name) & (_IMAGES | {"best"})
    return SHORTFALL_ON_TEST_IMAGES if of_test_images else SHORTFALL_ON_ANY_IMAGES


def stored_accuracy(entries: Mapping[str, Any]) -> tuple[str, float] | None:
    """The entry to believe among the values beside the weights, as a fraction in [0, 1].

    One on test images comes before one that does not say.
    """
    names = [name for name in entries if isinstance(name, str) and is_accuracy(name)]
    known = [*ON_TEST_IMAGES, "", *ON_ANY_IMAGES]

    def place(name: str) -> tuple[int, bool]:
        spelt = _spelt(name)
        return known.index(spelt) if spelt in known else known.index(""), not _words(name) & _IMAGES

    for name in sorted(names, key=place):
        if (value := _fraction(entries[name])) is not None:
            return name, value
    return None


def _fraction(value: Any) -> float | None:
    """A figure from 0 to 1 or in percent, also as text; None where it is no accuracy."""
    percent = isinstance(value, str) and value.strip().endswith("%")
    if isinstance(value, str):
        try:
            value = float(value.strip().rstrip("%"))
        except ValueError:
            return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 100:
        return None
    return float(value) if value <= 1 and not percent else value / 100


def _words(name: str) -> frozenset[str]:
    return frozenset(_spelt(name).split("_"))


def _spelt(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
