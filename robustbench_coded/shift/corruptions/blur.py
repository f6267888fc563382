"""Blurs: Gaussian, defocus, glass, motion, zoom."""

from collections.abc import Sequence

import numpy as np
from numpy.random import RandomState
from scipy.ndimage import correlate, gaussian_filter

from robustbench_coded.shift.corruptions.pixels import Floats, Pixels, as_floats, as_pixels
from robustbench_coded.shift.corruptions.resampling import read, zoomed


def smoothed(x: Floats, sigma: float) -> Floats:
    """Images [n, H, W, C] behind a Gaussian filter of ``sigma`` pixels."""
    return gaussian_filter(x, (0, sigma, sigma, 0), mode="nearest", truncate=4.0)


def gaussian_blur(x: Floats, generators: Sequence[RandomState], sigma: float) -> Pixels:
    """A Gaussian filter."""
    return as_pixels(smoothed(x, sigma))


def disk(radius: float, sigma: float) -> Floats:
    """[5, 5], summing to 1: a disk of at most 1.5 pixels, its edge softened by a 3 x 3 Gaussian."""
    rows, columns = np.mgrid[-2:3, -2:3]
    inside = (rows**2 + columns**2 <= radius**2).astype(np.float64)
    taps = np.exp(-(np.arange(-1, 2) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    return correlate(inside / inside.sum(), np.outer(taps, taps), mode="constant")


def defocus_blur(x: Floats, generators: Sequence[RandomState], radius: float, sigma: float) -> Pixels:
    """A lens out of focus: every point a disk."""
    return as_pixels(correlate(x, disk(radius, sigma)[None, :, :, None], mode="mirror"))


def glass_blur(
    x: Floats, generators: Sequence[RandomState], sigma: float, reach: float, rounds: float
) -> Pixels:
    """Frosted glass: pixels take the value of a neighbour above or to the left, between two Gaussian filters.

    The published set was meant to swap neighbours. What its program does is to copy, since one of the two
    values is overwritten before it is read; this does the same, for reach 1.
    """
    pixels = as_pixels(smoothed(x, sigma))
    height, width = x.shape[1:3]
    start = int(reach) + 1
    rows, columns = np.arange(start, height)[:, None], np.arange(start, width)
    for _ in range(int(rounds)):
        size = (height - start, width - start, 2)
        moves = np.stack([generator.randint(-int(reach), int(reach), size=size) for generator in generators])
        pixels[:, start:, start:] = read(pixels, rows + moves[..., 1], columns + moves[..., 0])
    return as_pixels(smoothed(as_floats(pixels), sigma))


def moved(x: Floats, radius: float, sigma: float, degrees: Floats) -> Floats:
    """Images [n, H, W, C] moved while the shutter was open, each in its own direction [n].

    ImageMagick's motion blur: a one-sided Gaussian trail of 2 radius + 1 whole pixels, edges repeated.
    """
    length = 2 * int(np.ceil(radius)) + 1
    steps = np.arange(length)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    angle = np.deg2rad(degrees)[:, None]
    down = np.ceil(steps * np.sin(angle) - 0.5).astype(np.int64)
    right = np.ceil(steps * np.cos(angle) - 0.5).astype(np.int64)
    height, width = x.shape[1:3]
    rows, columns = np.arange(height)[None, :, None], np.arange(width)[None, None, :]
    blurred, term = np.zeros_like(x), np.empty_like(x)
    for step, weight in enumerate(weights):
        row = np.clip(rows + down[:, step, None, None], 0, height - 1)
        column = np.clip(columns + right[:, step, None, None], 0, width - 1)
        read(x, row, column, out=term)
        term *= weight
        blurred += term
    return blurred


def motion_blur(x: Floats, generators: Sequence[RandomState], radius: float, sigma: float) -> Pixels:
    """A camera that moved, within 45 degrees of sideways."""
    degrees = np.array([generator.uniform(-45, 45) for generator in generators])
    return np.round(moved(x, radius, sigma, degrees) * 255).astype(np.uint8)


def zoom_blur(x: Floats, generators: Sequence[RandomState], zooms: float, step: float) -> Pixels:
    """A lens that zoomed while the shutter was open: the mean of the image and of ``zooms`` zooms from 1."""
    total = x + sum(zoomed(x, 1 + step * i) for i in range(int(zooms)))
    return as_pixels(total / (zooms + 1))
