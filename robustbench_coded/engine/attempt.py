"""Runs one unit in this process, and retries it where a retry can help."""

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from attacks.gradients import is_out_of_memory, makes_process_unusable
from robustbench_coded.errors import where_raised
from robustbench_coded.evaluation.execution.execute import execute
from robustbench_coded.evaluation.execution.results import UnitFailure, UnitResult
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.cases import Unit

MESSAGE_LENGTH = 500
DETAILS_LENGTH = 8000


def attempt(context: WorkerContext, unit: Unit) -> UnitResult | UnitFailure:
    """Runs a unit; any error in it becomes a failure.

    Units are deterministic, so an error recurs unless its cause is outside: a stalled file system (one retry)
    or lack of memory (one retry, then with half the images per forward, and so on until a forward holds one
    batch). Smaller forwards can round differently, so the result's metadata then state their number of images
    as ``group_images``.
    """
    images = context.setup.group_images
    tries = 0
    while True:
        tries += 1
        outcome, error = _try(context, unit, images, tries)
        if error is None:
            return outcome
        again = _images_of_next_try(error, tries, images, unit.row.subject.images)
        if again is None:
            return outcome
        images = again
        del error  # its traceback references the tensors that filled the memory
        _release_memory()


def _try(
    context: WorkerContext, unit: Unit, images: int, tries: int
) -> tuple[UnitResult | UnitFailure, BaseException | None]:
    planned = context.setup.group_images
    try:
        if images == planned:
            return execute(context, unit), None
        with _group_images(context, images):
            result = execute(context, _cut(unit, images))
        return replace(result, unit=unit, metadata={**result.metadata, "group_images": images}), None
    except (Exception, SystemExit) as error:
        details = "".join(traceback.format_exception(error))[-DETAILS_LENGTH:]
        return UnitFailure(unit, one_line(error), tries, details, makes_process_unusable(error)), error


def _images_of_next_try(error: BaseException, tries: int, images: int, least: int) -> int | None:
    """How many images a forward of the next try may hold; None if another try is useless."""
    if is_out_of_memory(error):
        if tries == 1:
            return images  # another process's memory, or fragments of ours, may be free by now
        return images // 2 if images > least else None
    if isinstance(error, OSError):
        return images if tries == 1 else None
    return None


def _cut(unit: Unit, images: int) -> Unit:
    """The same unit with groups that fit into ``images`` images."""
    size = max(1, images // unit.row.subject.images)
    pieces = (group[i : i + size] for group in unit.groups for i in range(0, len(group), size))
    return replace(unit, groups=tuple(pieces))


@contextmanager
def _group_images(context: WorkerContext, images: int) -> Iterator[None]:
    before = context.setup
    context.setup = replace(before, group_images=images)
    try:
        yield
    finally:
        context.setup = before


def _release_memory() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def one_line(error: BaseException) -> str:
    """An exception as one line of printable text."""
    text = " ".join(f"{error}{where_raised(error)}".split())
    text = "".join(c if c.isprintable() else "?" for c in text)
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return line if len(line) <= MESSAGE_LENGTH else line[: MESSAGE_LENGTH - 4] + " ..."
