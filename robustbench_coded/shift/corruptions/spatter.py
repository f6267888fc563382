"""Spatter: drops of water or mud on the lens."""

from collections.abc import Sequence

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy.ndimage import correlate, distance_transform_edt, gaussian_filter, label, sobel, uniform_filter

from robustbench_coded.shift.corruptions.pixels import Floats, Pixels, as_pixels, luminance

WATER = np.array([175, 238, 238]) / 255  # pale turquoise
MUD = np.array([63, 42, 20]) / 255
FARTHEST = 20  # pixels from the rim of a drop
EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])


def spatter(
    x: Floats,
    generators: Sequence[RandomState],
    mean: float,
    deviation: float,
    sigma: float,
    threshold: float,
    strength: float,
    mud: float,
) -> Pixels:
    """Drops where smoothed noise is above the threshold: water that brightens, or mud that covers."""
    noise = np.stack([generator.normal(mean, deviation, x.shape[1:3]) for generator in generators])
    liquid = gaussian_filter(noise, (0, sigma, sigma), mode="nearest", truncate=4.0)
    liquid[liquid < threshold] = 0
    colour: Floats = (MUD if mud else WATER)[None, None, None]
    if x.shape[-1] == 1:
        colour = luminance(colour)
    if mud:
        cover = gaussian_filter(
            (liquid > threshold) * 1.0, (0, strength, strength), mode="nearest", truncate=4.0
        )
        cover[cover < 0.8] = 0
        cover = cover[..., None]
        return as_pixels(x * (1 - cover) + colour * cover)
    light = np.stack([drops(image) for image in liquid])[..., None]
    return as_pixels(x + strength * light * colour)


def drops(liquid: Floats) -> Floats:
    """Light [H, W] in [0, 1] on drops of a thickness [H, W] in [0, 1], by the distance from their rims.

    The original's steps. Its distances are OpenCV's 5 x 5 approximation, ours are exact.
    """
    thickness = (liquid * 255).astype(np.uint8).astype(np.float64)
    if not thickness.any():
        return np.zeros_like(liquid)
    rims = edges(thickness, 50, 150)
    far = distance_transform_edt(~rims) if rims.any() else np.full(liquid.shape, np.inf)
    relief = np.floor(uniform_filter(np.minimum(far, FARTHEST), 3, mode="mirror"))
    relief = equalised(relief.astype(np.uint8)).astype(np.float64)
    relief = np.clip(correlate(relief, EMBOSS, mode="mirror"), 0, 255)
    light = thickness * np.round(uniform_filter(relief, 3, mode="mirror"))
    return light / light.max() if light.any() else light


def edges(image: Floats, low: float, high: float) -> NDArray[np.bool_]:
    """Canny's edges of an image [H, W]: ridges of the gradient above ``low`` that touch ``high``."""
    down, right = sobel(image, 0, mode="nearest"), sobel(image, 1, mode="nearest")
    size = np.abs(down) + np.abs(right)
    around = np.pad(size, 1)
    # Along which of four directions the gradient points, in eighths of a turn.
    eighth = np.round(np.arctan2(down, right) / (np.pi / 4)).astype(np.int64) % 4
    height, width = image.shape
    ridge = np.zeros(image.shape, dtype=bool)
    for number, (row, column) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        ahead = around[1 + row : 1 + row + height, 1 + column : 1 + column + width]
        behind = around[1 - row : 1 - row + height, 1 - column : 1 - column + width]
        ridge |= (eighth == number) & (size > behind) & (size >= ahead)
    parts, _ = label(ridge & (size > low), structure=np.ones((3, 3)))
    strong = np.unique(parts[ridge & (size > high)])
    return np.isin(parts, strong[strong > 0])


def equalised(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bytes [H, W] whose histogram is spread over 0 to 255."""
    counts = np.bincount(image.ravel(), minlength=256)
    lowest = int(np.flatnonzero(counts)[0])
    rest = image.size - counts[lowest]
    if not rest:
        return image
    levels = np.cumsum(counts) - counts[lowest]
    return np.round(np.clip(levels, 0, None) * (255 / rest)).astype(np.uint8)[image]
