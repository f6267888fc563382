"""Which images are evaluated: all, the first, or a random part of every class."""

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.subset import stratified_rows
from robustbench_coded.evaluation.planning.streams import stream

STRATIFIED = "stratified"  # how run.json calls a random subset; nothing there means the first, or all


def evaluated(data: Dataset, limit: int | None, *, first: bool, seed: int) -> Dataset:
    """The images that are evaluated, numbered as in ``data``.

    Args:
        data: all images there are.
        limit: how many to take; None takes all. All of them come in their own order.
        first: take the first ``limit``, not a random ``limit`` stratified by class.
        seed: names the random choice, which nothing else but the labels decides.

    Raises:
        InputError: ``limit`` is below 1 or above the number of images.
    """
    part = data.first(len(data) if limit is None else limit)
    if subset_rule(data, limit, first=first) is None:
        return part
    return data.subset(stratified_rows(data.labels, len(part), stream(seed, -1, "examples")))


def subset_rule(data: Dataset, limit: int | None, *, first: bool) -> str | None:
    """``STRATIFIED`` where a random part of the images is evaluated; None for the first ones, or all."""
    return None if first or limit is None or limit >= len(data) else STRATIFIED
