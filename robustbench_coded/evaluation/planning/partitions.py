"""Random partitions of the examples into other batches, and how many of them are scored.

A perturbation that does not depend on its batch can be submitted in any batch. In batch-dependent
defences few batches are what keeps intervals wide, and another partition of the same examples costs forward
passes alone. Which attacks are scored so is chosen in `partition_choice.py`.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence

import torch

from robustbench_coded.evaluation.planning.batches import Batch, partition
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.statistics.clustered import clopper_pearson

# Batches scored in all: 0 of 500 leaves 0.7%, and 0.9% at the half tail that an ensemble's share is asked at.
BATCHES_WANTED = 500
# How far below the bar the upper end is expected: more answers may be right than were before.
ROOM = 0.85


def partitions_wanted(examples: int, batches: int, k: int) -> int:
    """Partitions of ``examples`` into ``batches`` of ``k``: at most as many as give each a batch of its own.

    Beyond that more batches say nothing new: 0 of n examples is the least that can be known.
    """
    return max(2, min(-(-BATCHES_WANTED // batches), -(-examples // batches), k))


def partitions_to_settle(left: float, wanted: int, batches: int, bar: float, tail: float) -> int:
    """The fewest partitions that are likely to settle a word, ``wanted`` where none are.

    Args:
        left: share of right answers, on draws that partitions do not use.
        wanted: from `partitions_wanted`.
        batches: of one partition.
        bar: what the upper end must be below.
        tail: with which probability it may err.
    """

    def settles(number: int) -> bool:
        return clopper_pearson(left * number * batches, number * batches, tail)[1] < ROOM * bar

    return fewest(settles, 2, wanted)


def fewest(settles: Callable[[int], bool], least: int, wanted: int) -> int:
    """The first number from ``least`` on that settles a word, as larger ones do, or ``wanted``."""
    return least + bisect_left(range(least, wanted), True, key=settles)


def repartition(
    batches: Sequence[Batch], rule: str, seed: int, number: int, of: int | None = None
) -> list[Batch]:
    """Partition ``number`` (1 ...) of the examples that ``batches`` score, into as many batches as these.

    Its batches have indices, and so random streams, of their own: from ``number`` times as many as there are.

    Args:
        rule: what becomes of a last batch that is not full.
        of: how many batches there are, where these are not all of them.
    """
    examples = [member for batch in batches for member in batch.members[: batch.scored]]
    order = torch.randperm(len(examples), generator=stream(seed, number, "partition")).tolist()
    return [
        Batch(
            number * (of or len(batches)) + batch.index,
            tuple(examples[order[place]] for place in batch.members),
            batch.scored,
        )
        for batch in partition(len(examples), batches[0].k, rule)
    ]
