"""Pictures of perturbed inputs, from the files that ``--save-adversarials`` leaves in a run folder.

The perturbed inputs of a unit are in ``adversarials/<unit>.safetensors`` (`runs.adversarials`), the clean
images of the run in ``adversarials/clean.safetensors``: example [n] and x [n, C, H, W], uint8. Both are read
without torch, as numbers alone; a file that does not hold what it should gives no picture.
"""

import io
import re
from pathlib import Path

import numpy as np
from matplotlib import image
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from robustbench_coded.runs.atomic import write_bytes

CLEAN = "clean.safetensors"
LARGEST_SIDE = 1024
GAP = 2  # pixels between pictures
_UNIT = re.compile(r"[0-9a-f]{20}")
Picture = NDArray[np.uint8]  # [C, H, W]


def write_clean_images(run: Path, example: NDArray[np.int64], x: NDArray[np.floating]) -> None:
    """Stores the clean images of a run, rounded to 8 bits: they are for people to look at.

    Args:
        run: the run folder.
        example: [n], which examples they are.
        x: [n, C, H, W] in [0, 1].
    """
    pixels = np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
    write_bytes(run / "adversarials" / CLEAN, save({"example": example.astype(np.int64), "x": pixels}))


def clean_image(run: Path, example: int) -> Picture | None:
    """The clean image of one example."""
    try:
        with safe_open(run / "adversarials" / CLEAN, framework="numpy") as file:
            found = np.flatnonzero(file.get_tensor("example") == example)
            return _picture(file.get_slice("x")[int(found[0])]) if len(found) else None
    except (OSError, SafetensorError, ValueError, TypeError, IndexError):
        return None


def perturbed_image(run: Path, units: list[str], batch: int, slot: int) -> NDArray[np.float32] | None:
    """What an attack without a known draw made of one input, [C, H, W] in [0, 1]."""
    for unit in units:
        path = run / "adversarials" / f"{unit}.safetensors"
        if not _UNIT.fullmatch(unit) or not path.is_file():
            continue
        try:
            with safe_open(path, framework="numpy") as file:
                ours = np.flatnonzero((file.get_tensor("batch") == batch) & (file.get_tensor("known") < 0))
                evaluation, slots = file.get_tensor("evaluation"), file.get_tensor("slot")
                if evaluation.shape != slots.shape:
                    continue
                found = np.flatnonzero(np.isin(evaluation, ours) & (slots == slot))
                if len(found):
                    x = np.asarray(file.get_slice("x")[int(found[0])], dtype=np.float32)
                    return x if _fits(x) and np.isfinite(x).all() else None
        except (OSError, SafetensorError, ValueError, TypeError, IndexError):
            continue
    return None


def triptych(clean: Picture, perturbed: NDArray[np.float32]) -> bytes | None:
    """A PNG: clean image, perturbation around grey with its largest change at full scale, perturbed image."""
    if clean.shape != perturbed.shape:
        return None
    change = perturbed - clean.astype(np.float32) / 255
    largest = float(np.abs(change).max())
    shown = 0.5 + 0.5 * change / largest if largest > 0 else np.full_like(change, 0.5)
    parts = [clean, _bytes(shown), _bytes(perturbed)]
    height = clean.shape[1]
    gap = np.full((3, height, GAP), 255, dtype=np.uint8)
    colour = [np.broadcast_to(part, (3, *part.shape[1:])) for part in parts]
    joined = np.concatenate([colour[0], gap, colour[1], gap, colour[2]], axis=2)
    buffer = io.BytesIO()
    image.imsave(buffer, joined.transpose(1, 2, 0), format="png", metadata={"Software": ""})
    return buffer.getvalue()


def _bytes(x: NDArray[np.floating]) -> Picture:
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def _picture(x: NDArray[np.generic]) -> Picture | None:
    return x if x.dtype == np.uint8 and _fits(x) else None  # type: ignore[return-value]


def _fits(x: NDArray[np.generic]) -> bool:
    return x.ndim == 3 and x.shape[0] in (1, 3) and 0 < max(x.shape[1:]) <= LARGEST_SIDE
