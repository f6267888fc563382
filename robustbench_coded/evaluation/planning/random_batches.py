"""Random batches of clean inputs, each with one victim.

An attack on the base model perturbs every input by itself. The perturbed input can be submitted as the only
one of any batch, for one forward pass. So every example can be a victim, each in a batch of its own.
"""

from collections.abc import Sequence

import numpy as np
import torch

from robustbench_coded.evaluation.planning.batches import Batch
from robustbench_coded.evaluation.planning.partitions import ROOM, fewest
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.statistics.correlation import Correlation
from robustbench_coded.statistics.random_batches import random_batch_high

# 0 of 640 leaves 0.7% at the half tail that an ensemble's share is asked at, and 1.2% at a 24th of it.
VICTIMS_WANTED = 640


def random_batches_wanted(examples: int) -> int:
    """How many victims are scored, one in each batch: at most every example once."""
    return min(examples, VICTIMS_WANTED)


def victims_to_settle(
    left: float, wanted: int, bar: float, tail: float, correlation: Correlation, k: int
) -> int:
    """The fewest victims that are likely to settle a word, ``wanted`` where none are.

    Args:
        left: share of right answers, on draws that random batches do not use.
        wanted: from `random_batches_wanted`.
        bar: what the upper end must be below.
        tail: with which probability it may err.
        correlation: of two outcomes of a batch, as far as it is known. k: size of a batch.
    """

    def settles(number: int) -> bool:
        right = np.arange(number) < round(left * number)
        return random_batch_high(right, tail, correlation, k) < ROOM * bar

    return fewest(settles, 1, wanted)


def random_batch(
    batches: Sequence[Batch], seed: int, number: int, of: int | None = None
) -> tuple[Batch, int]:
    """Random batch ``number`` (1 ...), and the slot of its victim, which alone is scored.

    The victims of different numbers are different examples. Batches have indices, and so random streams, of
    their own.

    Args:
        batches: whose scored examples are victims and co-batched inputs.
        of: how many batches the evaluation has, where these are not all of them.
    """
    examples = [member for batch in batches for member in batch.members[: batch.scored]]
    order = torch.randperm(len(examples), generator=stream(seed, -1, "victims")).tolist()
    victim = examples[order[number - 1]]
    generator = stream(seed, number, "victims", 1)
    others = [examples[place] for place in torch.randperm(len(examples), generator=generator).tolist()]
    others = [member for member in others if member != victim] or [victim]
    k = batches[0].k
    slot = int(torch.randint(k, (1,), generator=generator))
    members = [others[place % len(others)] for place in range(k - 1)]
    return Batch(number * (of or len(batches)), (*members[:slot], victim, *members[slot:]), k), slot
