"""TensorBoard logs of a study: a folder for each training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from robustbench_coded.generation.records import Point
from robustbench_coded.generation.train import SAMPLES
from robustbench_coded.training.tensorboard import summary_writer

Said = Callable[[int, Point | None], None]
FIGURES = ("distance", "score", "gap")  # of a Point


def logged(said: Said, folder: Path, logs: Path) -> Said:
    """``said``, which also writes every measurement, and the images shown with it, into ``logs``.

    Args:
        folder: of the training; the images are there already when a measurement is told.

    Raises:
        InputError: TensorBoard is not installed.
    """
    writer = summary_writer(logs)

    def both(iteration: int, point: Point | None) -> None:
        said(iteration, point)
        if point is not None:
            for name in FIGURES:
                writer.add_scalar(name, getattr(point, name), iteration)
            writer.add_images("samples", np.load(folder / SAMPLES, allow_pickle=False), iteration)
            writer.flush()

    return both
