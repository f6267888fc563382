"""Answers to one attack's perturbed inputs in random batches of the evaluated images.

    random_batches(outcomes) -> {CaseKey: RandomBatches}

A batch-dependent defence answers few disjoint batches of n images. Perturbed inputs that are already there
can be scored in any number of random batches for a forward pass each, in one fresh draw of the defence.
Batches are drawn independently of each other. So their accuracies are independent values in [0, 1] with one
mean: the accuracy on these images, over random batches of them and draws. Bets (`betting.py`) bound it
without any assumption on images.

The same bets over images, of which each is one value, its mean over its random batches, have to agree: a few
images in many batches would otherwise say as much as many images. For them it is assumed that images matter
to each other only through the batches that they fill.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_coded.schema.case import KEY_COLUMNS, CaseKey
from robustbench_coded.statistics.betting import upper_end
from robustbench_coded.statistics.outcomes import case_keys

# The purposes of such outcomes. Runs of earlier versions hold random partitions of all images into batches
# instead. The batches of a partition are not independent, partitions are: each counts as one batch.
RANDOM, PARTITION = "random", "partition"


@dataclass(frozen=True)
class RandomBatches:
    """Answers to one attack's perturbed inputs.

    Attributes:
        example: [answers]. number: [answers], that of the random batch. correct: [answers].
    """

    example: NDArray[np.int64]
    number: NDArray[np.int64]
    correct: NDArray[np.bool_]

    @property
    def batches(self) -> int:
        """How many random batches were scored."""
        return len(np.unique(self.number))

    @property
    def images(self) -> NDArray[np.int64]:
        """The images that were scored in them, increasing."""
        return np.unique(self.example)

    def interval(self, tail: float) -> tuple[float, float]:
        """For the accuracy on these images; each end ever errs with probability at most ``tail``."""
        return self._ends(self.correct.astype(np.float64), tail, least=0.0)

    def above(
        self, base: Callable[[NDArray[np.int64]], NDArray[np.bool_]], tail: float
    ) -> tuple[float, float]:
        """The same for that accuracy less a base model's, which answers images one by one.

        Args:
            base: from images to whether the base model's answer is right.
        """
        images, place = np.unique(self.example, return_inverse=True)
        gained = self.correct.astype(np.float64) - base(images)[place]
        return self._ends(gained, tail, least=-1.0)

    def _ends(self, values: NDArray[np.float64], tail: float, least: float) -> tuple[float, float]:
        by_batch, by_image = _means(values, self.number), _means(values, self.example)
        return (
            -max(upper_end(-means, tail, -least) for means in (by_batch, by_image)),
            max(upper_end(means, tail) for means in (by_batch, by_image)),
        )


def random_batches(outcomes: pd.DataFrame) -> dict[CaseKey, RandomBatches]:
    """What was scored in random batches, by case."""
    rows = outcomes[outcomes["purpose"].isin((RANDOM, PARTITION)).to_numpy(dtype=bool)]
    scored = {}
    for _, part in rows.groupby(list(KEY_COLUMNS), dropna=False, observed=True):
        scored[case_keys(part.iloc[:1])[0]] = RandomBatches(
            part["example"].to_numpy().astype(np.int64),
            part["draw"].to_numpy().astype(np.int64),
            (part["prediction"] == part["label"]).to_numpy(dtype=bool),
        )
    return scored


def _means(values: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.float64]:
    code, sizes = np.unique(group, return_inverse=True, return_counts=True)[1:]
    return np.clip(np.bincount(code, weights=values) / sizes, -1.0, 1.0)
