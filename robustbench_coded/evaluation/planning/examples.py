"""Which images are evaluated, and in which order: the first ones, or random ones in random order."""

from robustbench_coded.data.dataset import Dataset, stratified_rows
from robustbench_coded.evaluation.planning.streams import stream

STRATIFIED = "stratified"  # how run.json calls a random subset; nothing there means the first, or all


def evaluated(data: Dataset, limit: int | None, *, first: bool, seed: int) -> Dataset:
    """The images that are evaluated, numbered as in ``data``.

    Args:
        data: all images there are.
        limit: how many to take; None takes all.
        first: take the first ``limit`` in their own order, not a random ``limit`` stratified by class in
            random order, of which any first part is a random sample, too.
        seed: names the random choice, which nothing else but the labels decides.

    Raises:
        InputError: ``limit`` is below 1 or above the number of images.
    """
    part = data.first(len(data) if limit is None else limit)
    if first:
        return part
    return data.subset(stratified_rows(data.labels, len(part), stream(seed, -1, "examples")))


def subset_rule(*, first: bool) -> str | None:
    """``STRATIFIED`` where images are taken and ordered at random; None for their own order."""
    return None if first else STRATIFIED
