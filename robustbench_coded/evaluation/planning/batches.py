"""Which images are evaluated, in which order, and how they become batches: members and slots, fixed
from start to end; and which of them a case runs on at each sample size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from robustbench_coded.data.dataset import Dataset, stratified_rows
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.config import LAST_BATCH_RULES
from robustbench_coded.evaluation.planning.cases import Victim
from robustbench_coded.evaluation.planning.comparisons import first_look
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.schema.case import ThreatModel

STRATIFIED = "stratified"  # how run.json calls a random subset; nothing there means the first, or all


def evaluated(data: Dataset, limit: int | None, *, first: bool, seed: int, mix: str | None = None) -> Dataset:
    """The images that are evaluated, numbered as in ``data``.

    Args:
        data: all images there are.
        limit: how many to take; None takes all.
        first: take the first ``limit`` in their own order, not a random ``limit`` stratified by class in
            random order, of which any first part is a random sample, too.
        seed: names the random choice, which nothing else but the labels decides.
        mix: in which order they are taken, and so which classes a batch has: ``balanced`` as evenly as
            possible in any part, ``shuffled`` at random, ``data`` in their own order; None as they are
            taken: in their own order where they are the first ones, at random otherwise.

    Raises:
        InputError: ``limit`` is below 1 or above the number of images.
    """
    count = len(data) if limit is None else limit
    if not 1 <= count <= len(data):
        raise InputError(f"--limit {count}: give a count from 1 to {len(data)}, the images {data.name} has")
    generator = stream(seed, -1, "examples")
    rows = np.arange(count) if first else stratified_rows(data.labels, count, generator)
    if first and mix is not None:
        rows = rows[torch.randperm(len(rows), generator=generator).numpy()]
    if mix == "balanced":
        rows = rows[dealt(data.labels[rows])]
    return data.subset(np.sort(rows) if mix == "data" else rows)


def dealt(labels: np.ndarray) -> np.ndarray:
    """The order in which each class comes at even distances, and within itself as before."""
    member, sizes = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    rank = np.empty(len(labels))
    for number, size in enumerate(sizes):
        rank[member == number] = (np.arange(size) + 0.5) / size
    return np.lexsort((np.arange(len(labels)), rank))


@dataclass(frozen=True)
class Batch:
    """One batch of queries.

    Attributes:
        index: position within the partition; names the batch's random streams.
        members: example of each slot, length k.
        scored: how many of the leading slots are scored; the rest only fill the batch up.
        together: inputs in a row that are malicious or benign together: in a sequence, those of a batch.
    """

    index: int
    members: tuple[int, ...]
    scored: int
    together: int = 1

    @property
    def k(self) -> int:
        return len(self.members)


def partition(examples: int, k: int, last_batch: str = "pad", together: int = 1) -> list[Batch]:
    """Cuts examples 0 ... examples - 1, in their order, into batches of ``k``.

    Args:
        last_batch: what becomes of a last batch with fewer than k examples: ``pad`` fills it with examples
            from the beginning that are not scored there, ``shrink`` leaves it smaller, ``drop`` out.

    Raises:
        ValueError: on an unknown rule, or when ``drop`` leaves nothing.
    """
    if last_batch not in LAST_BATCH_RULES:
        raise ValueError(f"expected last_batch out of {', '.join(LAST_BATCH_RULES)}, got {last_batch!r}")
    batches = []
    for index, start in enumerate(range(0, examples, k)):
        scored = min(k, examples - start)
        if scored < k and last_batch == "drop":
            break
        fill = k - scored if last_batch == "pad" else 0
        members = (*range(start, start + scored), *(i % examples for i in range(fill)))
        batches.append(Batch(index, members, scored, together))
    if not batches:
        raise ValueError(
            f"expected at least one full batch, got {examples} examples for k={k} with last_batch='drop'"
        )
    return batches


def choose_victims(batches: Sequence[Batch], count: int, seed: int) -> list[Victim]:
    """A random sample of ``count`` scored examples as victims, in the order of batch and slot.

    Every slot is equally likely; a victim keeps its own batch and slot.
    """
    places = [Victim(b.index, slot) for b in batches for slot in range(b.scored)]
    order = torch.randperm(len(places), generator=stream(seed, -1, "victims")).tolist()
    chosen = [places[i] for i in order[: min(count, len(places))]]
    return sorted(chosen, key=lambda v: (v.batch, v.slot))


def malicious_slots(batch: Batch, count: int, seed: int) -> list[int]:
    """The slots of ``count`` malicious inputs, every slot equally likely; those of 2 are among those of 4."""
    parts = [range(batch.k)[start : start + batch.together] for start in range(0, batch.k, batch.together)]
    order = torch.randperm(len(parts), generator=stream(seed, batch.index, "victims"))
    return sorted([slot for part in order.tolist() for slot in parts[part]][:count])


def scored_slots(threat: ThreatModel, batch: Batch, seed: int) -> list[int]:
    """The slots of a batch whose answers count: under collateral damage the unperturbed ones.

    None where a batch is too small for so many malicious inputs and an untouched one.
    """
    if threat.malicious is None:
        return list(range(batch.scored))
    if threat.malicious >= batch.k:
        return []
    malicious = set(malicious_slots(batch, threat.malicious, seed))
    return [slot for slot in range(batch.scored) if slot not in malicious]


# Victims attacked at first: each has a batch of its own, and costs as much. Where their attack has perturbed
# whole batches, too, random batches with one victim settle the verdict.
FIRST_VICTIMS = 4


def batches_at(batches: Sequence[Batch], sizes: Sequence[int], size: int) -> list[list[Batch]]:
    """The batches of the first ``size`` examples, cut between sample sizes; parts without any are left out.

    Args:
        batches: all of a subject, of equal k but for the last.
        sizes: all sample sizes, increasing.
        size: one of them.
    """
    last, k = sizes[-1], batches[0].k
    parts = [
        [batch for batch in batches if start < min((batch.index + 1) * k, last) <= end]
        for start, end in zip((0, *sizes), sizes, strict=False)
        if end <= size
    ]
    return [part for part in parts if part]


def victims_at(
    batches: Sequence[Batch], sizes: Sequence[int], size: int, count: int, seed: int
) -> list[list[Victim]]:
    """The same for victims: a few among the examples of the first look, beyond it ``count`` of all."""
    if len(sizes) == 1:
        return [choose_victims(batches, count, seed)]
    start = first_look(sizes)
    looked_at = [batch for part in batches_at(batches, sizes, start) for batch in part]
    first = choose_victims(looked_at, min(FIRST_VICTIMS, count), seed)
    further = [victim for victim in choose_victims(batches, count, seed) if victim not in first]
    further = further[: count - len(first)]
    return [first, further] if further and size > start else [first]
