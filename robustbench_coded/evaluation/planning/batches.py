"""Which images are evaluated, in which order, and how they become batches: members and slots, fixed
from start to end; and which of them a case runs on at each sample size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from robustbench_coded.data.dataset import Dataset, stratified_rows
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.planning.streams import stream

# A victim's batch costs as much as any other: few victims at the first look, where one forward in each of
# more batches confirms a break, and so many at the next.
FIRST_VICTIMS, SECOND_VICTIMS = 4, 16
VICTIMS = 1 << 20  # the index of the first victim's batch, beyond those of all other batches
STRATIFIED = "stratified"  # how run.json calls a random subset; nothing there means the first, or all


def evaluated(data: Dataset, limit: int | None, *, first: bool, seed: int) -> Dataset:
    """The images that are evaluated, each once, numbered as in ``data``.

    Args:
        data: all images there are.
        limit: how many to take; None, or more than differ, takes all.
        first: take the first ``limit`` in their own order, not a random ``limit`` stratified by class in
            random order, of which any first part is a random sample, too.
        seed: names the random choice, which nothing else but the labels decides.

    Raises:
        InputError: ``limit`` is below 1 or above the number of images.
    """
    count = len(data) if limit is None else limit
    if not 1 <= count <= len(data):
        raise InputError(f"--limit {count}: give a count from 1 to {len(data)}, the number of images")
    once = data.distinct
    count = min(count, len(once))
    rows = (
        np.arange(count) if first else stratified_rows(data.labels[once], count, stream(seed, -1, "examples"))
    )
    return data.subset(once[rows])


@dataclass(frozen=True)
class Batch:
    """One batch of queries.

    Attributes:
        index: position within the partition; names the batch's random streams.
        members: example of each slot, length k.
        scored: how many of the leading slots are scored; the rest only fill the batch up.
        victim: the slot of the one input that is attacked and scored; None where it is no victim's batch.
    """

    index: int
    members: tuple[int, ...]
    scored: int
    victim: int | None = None

    @property
    def k(self) -> int:
        return len(self.members)

    @property
    def scored_slots(self) -> list[int]:
        """The slots whose answers count."""
        return list(range(self.scored)) if self.victim is None else [self.victim]


def partition(examples: int, k: int, *, full: bool = True) -> list[Batch]:
    """Cuts examples 0 ... examples - 1, in their order, into batches of ``k``.

    Args:
        full: fill a last batch of fewer than k examples with some from the beginning, which are not scored
            there; False leaves it smaller.
    """
    batches = []
    for index, start in enumerate(range(0, examples, k)):
        scored = min(k, examples - start)
        fill = k - scored if full else 0
        members = (*range(start, start + scored), *(i % examples for i in range(fill)))
        batches.append(Batch(index, members, scored))
    return batches


@lru_cache(maxsize=4096)
def victims_batch(number: int, examples: int, k: int, seed: int) -> Batch:
    """The batch of victim ``number`` (0 ...): example ``number`` in a random slot among k - 1 random others.

    It follows from these arguments alone, so that the batches of 32 victims are the first 32 of those of 64.
    Fewer than k examples fill a batch up again.
    """
    generator = stream(seed, number, "victims", 1)
    slot = int(torch.randint(k, (1,), generator=generator))
    order = torch.randperm(examples, generator=generator).tolist()
    others = [example for example in order if example != number] or [number]
    members = [others[place % len(others)] for place in range(k - 1)]
    return Batch(VICTIMS + number, (*members[:slot], number, *members[slot:]), k, victim=slot)


def batches_at(batches: Sequence[Batch], sizes: Sequence[int], size: int) -> list[list[Batch]]:
    """The batches of the first ``size`` examples, cut between sample sizes, and the first look in two so that
    workers share it; parts without any are left out.

    Args:
        batches: all of a subject, of equal k but for the last.
        sizes: all sample sizes, increasing.
        size: one of them.
    """
    last, k = sizes[-1], batches[0].k
    ends = (sizes[0] // 2, *sizes) if len(sizes) > 1 else sizes
    parts = [
        [batch for batch in batches if start < min((batch.index + 1) * k, last) <= end]
        for start, end in zip((0, *ends), ends, strict=False)
        if end <= size
    ]
    return [part for part in parts if part]


def victims_at(sizes: Sequence[int], size: int, most: int) -> int:
    """How many examples are attacked as victims at a sample size: few at the first look, then more, and twice
    as many each time.

    Args:
        most: how many at the last size.
    """
    if size == sizes[-1]:
        return min(most, size)
    later = sum(sizes[0] < other <= size for other in sizes)
    return min(most, SECOND_VICTIMS << (later - 1) if later else FIRST_VICTIMS)
