"""Sets of images under covariate shift: names, corruptions and their constants (arXiv 1903.12261)."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from robustbench_coded.data.dataset import Images


# The constants of the CIFAR version, severities 1 to 5, as published with the data set.
#
# Facts of hendrycks/robustness, ImageNet-C/create_c/make_cifar_c.py. Lengths are pixels of 32 x 32 images.


SEVERITIES = (1, 2, 3, 4, 5)

CONSTANTS: dict[str, tuple[tuple[float, ...], ...]] = {
    "gaussian_noise": ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),  # deviation
    "shot_noise": ((500,), (250,), (100,), (75,), (50,)),  # photons at full brightness
    "impulse_noise": ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),  # share of values replaced
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),  # radius, sigma of its edge
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),  # sigma, reach, times
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),  # radius, sigma
    # Zooms from 1 to below this, and the step; by rounding, the first two are reached and count, too.
    "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    # mean, deviation, zoom, threshold, radius, sigma, share of the image
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),  # shares of image and frost
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),  # thickness, decay of its roughness
    "brightness": ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),
    "contrast": ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
    # displacement, its sigma, shift of the corners: in sides of the image
    "elastic_transform": (
        (0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03),
    ),
    "pixelate": ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),
    "jpeg_compression": ((80,), (65,), (58,), (50,), (40,)),  # quality
    "speckle_noise": ((0.06,), (0.1,), (0.12,), (0.16,), (0.2,)),
    "gaussian_blur": ((0.4,), (0.6,), (0.7,), (0.8,), (1,)),  # sigma
    # mean, deviation, sigma, threshold, strength or sigma of the edge, 0 water and 1 mud
    "spatter": (
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
    "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),  # factor, offset
}  # fmt: skip

# The mean corruption error is defined on these; the other four were published for validation.
MAIN = tuple(CONSTANTS)[:15]
EXTRA = tuple(CONSTANTS)[15:]


CLEAN = "clean"


@dataclass(frozen=True, eq=False)
class ShiftSet:
    """Labelled images of one kind.

    Attributes:
        collection: what it belongs to, as tables name it: ``CIFAR-10-C (ours)``, ``CIFAR-10.1`` ...
        name: ``clean``, a corruption, or a version (``v6``).
        severity: 1 to 5; 0 where there is none.
        images: ``[m, H, W, C]``, of which ``rows`` [n] are taken.
        labels: [n].
    """

    collection: str
    name: str
    severity: int
    images: "Images"
    rows: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class StoredArray:
    """Images of an .npy file, read when asked for; it travels to other processes as a path.

    Attributes:
        path: the file. start, stop: the rows that belong to the set; all without them.
    """

    path: Path
    start: int = 0
    stop: int | None = None

    def _array(self) -> np.ndarray:
        return np.load(self.path, mmap_mode="r", allow_pickle=False)[self.start : self.stop]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array().shape

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        return self._array()[rows]
