"""An attacked example as one picture, from what `runs.pictures` keeps of each unit."""

import io
import re
from pathlib import Path

import numpy as np
from matplotlib import image

from robustbench_coded.runs.pictures import Image, read_picture

FOLDER = "pictures"
GAP = 2  # pixels between pictures
_UNIT = re.compile(r"[0-9a-f]{20}")


def picture_file(run: Path, units: list[str], example: int) -> tuple[Path, Image, Image] | None:
    """The file of one of the units that holds the example, its clean and its perturbed image."""
    for unit in units:
        path = run / FOLDER / f"{unit}.safetensors"
        found = read_picture(path, example) if _UNIT.fullmatch(unit) and path.is_file() else None
        if found is not None:
            return path, *found
    return None


def triptych(clean: Image, perturbed: Image) -> bytes:
    """A PNG: clean image, perturbation around grey with its largest change at full scale, perturbed image.

    Args:
        clean, perturbed: of one shape.
    """
    change = perturbed.astype(np.float32) - clean
    largest = max(float(np.abs(change).max()), 1.0)
    shown = np.rint(127.5 + 127.5 * change / largest).astype(np.uint8)
    gap = np.full((3, clean.shape[1], GAP), 255, dtype=np.uint8)
    colour = [np.broadcast_to(part, (3, *part.shape[1:])) for part in (clean, shown, perturbed)]
    joined = np.concatenate([colour[0], gap, colour[1], gap, colour[2]], axis=2)
    buffer = io.BytesIO()
    image.imsave(buffer, joined.transpose(1, 2, 0), format="png", metadata={"Software": ""})
    return buffer.getvalue()
