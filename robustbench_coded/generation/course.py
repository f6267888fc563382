"""The course of a training as one picture: a row of generated images for each measurement, oldest on top."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from robustbench_coded.runs.atomic import write_bytes

COURSE = "samples.png"
COLUMNS = 16


def add_row(path: Path, images: Tensor, row: int) -> None:
    """Adds the first 16 images as a row of the picture at ``path``.

    A training that was stopped may find a row more than it has measurements. It is replaced.

    Args:
        images: [count, C, S, S] in [0, 1], C 1 or 3, of the same latents at every measurement.
        row: measurements before this one.
    """
    tiles = (255 * images[:COLUMNS]).round().byte().numpy()
    channels, side = tiles.shape[1:3]
    new = tiles.transpose(2, 0, 3, 1).reshape(side, -1, channels).repeat(3 // channels, axis=2)
    try:
        with Image.open(path) as picture:
            before = np.asarray(picture.convert("RGB"))[: row * side]
    except OSError:  # none yet, or damaged
        before = new[:0]
    rows = np.concatenate([before, new]) if before.shape[1] == new.shape[1] else new
    buffer = io.BytesIO()
    Image.fromarray(rows).save(buffer, "png")
    write_bytes(path, buffer.getvalue())
