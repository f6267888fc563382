"""What a defence keeps without looking at its inputs, and how little above that counts as nothing.

    exchanged_accuracy(clean)  -> float    the floor
    broken_below(clean)        -> float    the bar: the floor and a twentieth of the clean accuracy
    uninformative(clean, high) -> bool     clean answers that are worth no more than a constant one

The floor is what uninformative inputs leave: the accuracy after the clean inputs have been exchanged at
random among the examples. A constant answer keeps the share of its class, an answer that rejects everything
keeps nothing, and whatever looks at its input falls to chance: about 10% of ten even classes, 1% of a
hundred, half of two. An attacked accuracy near the floor is worth no more than an answer that needs no
computation, however many classes there are.

Where the clean answers themselves are no better than the best constant one (guesses, rejections, a single
class), no attack is needed, and none can show much: what is left may be chance to the last bit.
"""

import numpy as np

from robustbench_coded.statistics.outcomes import Cell

SHARE_OF_CLEAN = 0.05
NEAR_CONSTANT = 0.05


def exchanged_accuracy(clean: Cell) -> float:
    """Mean over all pairs of two examples of how often the answer to the one is the label of the other."""
    examples, draws = clean.prediction.shape
    classes = int(max(clean.prediction.max(), clean.label.max())) + 1
    answers = np.bincount(clean.prediction[clean.prediction >= 0], minlength=classes)
    labels = np.bincount(clean.label, minlength=classes)
    own = int(clean.correct.sum())
    return float(int(answers @ labels) - own) / (draws * examples * max(examples - 1, 1))


def broken_below(clean: Cell | None) -> float:
    """The accuracy up to which a defence is broken; without clean outcomes the smallest it can be, 0."""
    if clean is None:
        return 0.0
    return exchanged_accuracy(clean) + SHARE_OF_CLEAN * float(clean.correct.mean())


def uninformative(clean: Cell, high: float) -> bool:
    """Whether there is one answer to all clean inputs, or the clean accuracy is near what such a one keeps.

    Near, or below: certainly within 5 points of the largest class, or half as much again where there are many
    classes.

    Args:
        high: upper end of the clean accuracy.
    """
    if np.ptp(clean.prediction) == 0 < np.ptp(clean.label):
        return True
    share = float(np.bincount(clean.label).max()) / len(clean.label)
    return high <= share + min(NEAR_CONSTANT, share / 2)
