"""Which images of a data set are taken where not all of them are: a random part of every class.

    stratified_rows(labels, count, generator) -> rows

Every class has its share of the images taken, rounded by largest remainder, so that a small subset has
neither more nor fewer of a class than the data. Within a class every image is equally likely.
"""

import numpy as np
import torch


def stratified_rows(labels: np.ndarray, count: int, generator: torch.Generator) -> np.ndarray:
    """``count`` different rows of labels ``[n]``, in random order, so that batches of them are random ones.

    Of classes with equal remainders those that get one image more are drawn at random.

    Raises:
        ValueError: ``count`` is not between 0 and n.
    """
    total = len(labels)
    if not 0 <= count <= total:
        raise ValueError(f"expected a count from 0 to {total}, got {count}")
    member, sizes = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    quota, remainder = np.divmod(count * sizes, max(total, 1))
    tie = torch.randperm(len(sizes), generator=generator).numpy()
    quota[np.lexsort((tie, -remainder))[: count - quota.sum()]] += 1
    order = torch.randperm(total, generator=generator).numpy()
    taken = np.zeros(total, dtype=bool)
    for number, size in enumerate(quota):
        taken[order[member[order] == number][:size]] = True
    return order[taken[order]]
