"""Noise: Gaussian, Poisson, salt and pepper, speckle."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import RandomState

from robustbench_coded.shift.corruptions.pixels import Floats, Pixels, as_pixels


def gaussian_noise(x: Floats, generators: Sequence[RandomState], deviation: float) -> Pixels:
    """Adds normal noise."""
    return as_pixels(x + deviation * _each(generators, lambda g: g.normal(size=x.shape[1:])))


def shot_noise(x: Floats, generators: Sequence[RandomState], photons: float) -> Pixels:
    """Counts photons: Poisson noise of a pixel that holds ``photons`` of them where it is white."""
    counted = [generator.poisson(image * photons) for image, generator in zip(x, generators, strict=True)]
    return as_pixels(np.stack(counted) / photons)


def impulse_noise(x: Floats, generators: Sequence[RandomState], share: float) -> Pixels:
    """Replaces a share of all values, each channel by itself, by 0 or 1, equally often."""
    replaced = _each(generators, lambda g: g.uniform(size=x.shape[1:])) < share
    white = _each(generators, lambda g: g.uniform(size=x.shape[1:])) < 0.5
    return as_pixels(np.where(replaced, white, x))


def speckle_noise(x: Floats, generators: Sequence[RandomState], deviation: float) -> Pixels:
    """Adds normal noise in proportion to brightness."""
    return as_pixels(x + x * deviation * _each(generators, lambda g: g.normal(size=x.shape[1:])))


def _each(generators: Sequence[RandomState], draw: Callable[[RandomState], Floats]) -> Floats:
    return np.stack([draw(generator) for generator in generators])
