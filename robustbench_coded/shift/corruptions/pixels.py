"""Floats and bytes of images."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]  # [n, H, W, C] in [0, 1]
Pixels = NDArray[np.uint8]  # [n, H, W, C]


def as_pixels(x: Floats) -> Pixels:
    """Bytes of floats; what lies outside [0, 1] is clipped, and fractions are cut off, as in the original."""
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)


def as_floats(pixels: Pixels) -> Floats:
    """Floats in [0, 1] of bytes."""
    return pixels.astype(np.float64) / 255


def luminance(x: Floats) -> Floats:
    """Brightness [n, H, W, 1] by the weights of ITU-R BT.601; a grey image is its own."""
    return x if x.shape[-1] == 1 else (x @ np.array([0.299, 0.587, 0.114]))[..., None]
