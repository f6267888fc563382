"""The accuracy of victims that were each answered once, in random batches of clean inputs.

    random_batch_high(correct, tail, correlation, k) -> high

Each victim sits in a batch of its own, so that few are saved by one batch. But all batches are drawn
from the same examples, and how much these contribute cannot be seen in one answer a batch. Where at most 3%
are right (or five), the upper end is Clopper and Pearson's with one outcome a victim. That assumes that no
rare kind of example decides the fate of the victims it sits with; only other examples could show that. Where
the subject's other rows show beyond doubt that the outcomes of a batch are alike, n is what batches of K are
worth at that correlation. Where more are right, no word hangs on it, and nothing is said.
"""

import numpy as np
from numpy.typing import NDArray

from robustbench_coded.statistics.clustered import FEW_EXAMPLES, clopper_pearson
from robustbench_coded.statistics.correlation import Correlation

LARGEST_SHARE = 0.03  # right; the assumption above was tried up to here (docs/numbers.md)


def random_batch_high(correct: NDArray[np.bool_], tail: float, correlation: Correlation, k: int) -> float:
    """Upper end for the population accuracy, over victims, batches and draws.

    Args:
        correct: [victims], whether the one answer to each is right.
        tail: with which probability it may err.
        correlation: of two outcomes of a batch, as the subject's other rows show it.
        k: size of the batches that victims are answered in.
    """
    victims, right = len(correct), int(np.count_nonzero(correct))
    if right > max(FEW_EXAMPLES, LARGEST_SHARE * victims):
        return 1.0
    worth = float(victims)
    if correlation.low > 0:
        whole, rest = divmod(victims, k)
        worth = correlation.effective(np.asarray([k] * whole + ([rest] if rest else [])))
    return clopper_pearson(right / victims * worth, worth, tail)[1]
