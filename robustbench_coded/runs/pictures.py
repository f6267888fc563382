"""Pictures of a unit: the few inputs with the lowest margins, for reports.

A file holds n inputs of a unit: example [n] int64, clean and perturbed uint8 [n, C, H, W]. They are rounded
to 8 bits and no figure is counted from them; ``--save-adversarials`` keeps every input exactly.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

MOST = 8  # pictures of a unit; some may be of examples that are misclassified when clean
LARGEST_SIDE = 1024
Image = NDArray[np.uint8]  # [C, H, W]


@dataclass
class Pictures:
    """Collects the pictures of a unit."""

    selection: list[tuple[float, int, Image, Image]] = field(default_factory=list)

    def add(
        self,
        example: NDArray[np.integer],
        margin: NDArray[np.floating],
        clean: NDArray[np.floating],
        perturbed: NDArray[np.floating],
    ) -> None:
        """Keeps the inputs with the lowest margins; of equal margins the example with the lower number.

        Args:
            example: [n], which examples they are.
            margin: [n], the true class's logit less the largest other one, mean over the draws.
            clean, perturbed: [n, C, H, W] in [0, 1].
        """
        if max(clean.shape[2:]) > LARGEST_SIDE:
            return
        pairs = zip(_bytes(clean), _bytes(perturbed), strict=True)
        pictures = zip(map(float, margin), map(int, example), *zip(*pairs, strict=True), strict=True)
        self.selection = sorted([*self.selection, *pictures], key=lambda picture: picture[:2])[:MOST]

    def encoded(self) -> bytes | None:
        """The content of a file, None without pictures."""
        if not self.selection:
            return None
        _, example, clean, perturbed = zip(*self.selection, strict=True)
        arrays = {"clean": np.stack(clean), "perturbed": np.stack(perturbed)}
        return save({"example": np.array(example, dtype=np.int64), **arrays})


def lowest(margin: NDArray[np.floating]) -> NDArray[np.intp]:
    """Indices of the inputs with the lowest margins [n]."""
    return np.argsort(margin, kind="stable")[:MOST]


def read_picture(path: Path, example: int) -> tuple[Image, Image] | None:
    """Clean and perturbed image of an example; None if the file does not contain them."""
    try:
        with safe_open(path, framework="numpy") as file:
            places = np.flatnonzero(file.get_tensor("example") == example)
            if not len(places):
                return None
            clean, perturbed = (file.get_slice(name)[int(places[0])] for name in ("clean", "perturbed"))
    except (OSError, SafetensorError, ValueError, TypeError, IndexError):
        return None
    return (
        (clean, perturbed) if clean.shape == perturbed.shape and _fits(clean) and _fits(perturbed) else None
    )


def _bytes(x: NDArray[np.floating]) -> Image:
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def _fits(x: NDArray[np.generic]) -> bool:
    return (
        x.dtype == np.uint8 and x.ndim == 3 and x.shape[0] in (1, 3) and 0 < max(x.shape[1:]) <= LARGEST_SIDE
    )
