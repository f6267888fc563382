"""Weather: snow, frost, fog."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.random import RandomState
from scipy.ndimage import gaussian_filter

from robustbench_coded.shift.corruptions.blur import moved
from robustbench_coded.shift.corruptions.pixels import Floats, Pixels, as_pixels, luminance
from robustbench_coded.shift.corruptions.resampling import zoomed

TEXTURES, TEXTURE_SIDE = 5, 224
FROST_COLOUR = (0.90, 0.97, 1.0)


def snow(
    x: Floats,
    generators: Sequence[RandomState],
    mean: float,
    deviation: float,
    zoom: float,
    threshold: float,
    radius: float,
    sigma: float,
    share: float,
) -> Pixels:
    """Flakes driven by the wind in front of a paler image."""
    flakes = np.stack([generator.normal(mean, deviation, x.shape[1:3]) for generator in generators])
    layer = zoomed(flakes[..., None], zoom)
    layer[layer < threshold] = 0
    degrees = np.array([generator.uniform(-135, -45) for generator in generators])
    layer = np.round(255 * moved(as_pixels(layer) / 255, radius, sigma, degrees)) / 255
    paler = np.maximum(x, 1.5 * luminance(x) + 0.5)
    return as_pixels(share * x + (1 - share) * paler + layer + np.rot90(layer, 2, axes=(1, 2)))


def fog(x: Floats, generators: Sequence[RandomState], thickness: float, decay: float) -> Pixels:
    """A cloud of fractal density, and the whole darkened so that white stays white."""
    height, width = x.shape[1:3]
    cloud = plasma(generators, 1 << int(np.ceil(np.log2(max(height, width)))), decay)
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    foggy = x + thickness * cloud[:, :height, :width, None]
    return as_pixels(foggy * brightest / (brightest + thickness))


def plasma(generators: Sequence[RandomState], side: int, decay: float) -> Floats:
    """Clouds [n, side, side] from 0 to 1 by the diamond-square algorithm on a torus.

    At every halving of the grid, a new point is the mean of its four neighbours and a uniform number that is
    at first within 100^2 of 0 and within ``decay``^2 times less at every further one.
    """
    noise = np.stack([generator.uniform(-1, 1, (side, side)) for generator in generators])
    cloud = np.zeros_like(noise)
    step, rough = side, 100.0
    while step > 1:
        half = step // 2
        corners = cloud[:, ::step, ::step]
        corner_pairs = corners + np.roll(corners, -1, axis=1)
        middles = (corner_pairs + np.roll(corner_pairs, -1, axis=2)) / 4
        middles = middles + rough**2 * noise[:, half::step, half::step]
        cloud[:, half::step, half::step] = middles
        beside = corners + np.roll(corners, -1, axis=2) + middles + np.roll(middles, 1, axis=1)
        cloud[:, ::step, half::step] = beside / 4 + rough**2 * noise[:, ::step, half::step]
        above = corners + np.roll(corners, -1, axis=1) + middles + np.roll(middles, 1, axis=2)
        cloud[:, half::step, ::step] = above / 4 + rough**2 * noise[:, half::step, ::step]
        step, rough = half, rough / decay
    cloud -= cloud.min(axis=(1, 2), keepdims=True)
    highest = cloud.max(axis=(1, 2), keepdims=True)
    return cloud / np.where(highest > 0, highest, 1)


def frost(x: Floats, generators: Sequence[RandomState], image_share: float, frost_share: float) -> Pixels:
    """Ice on the window. The textures are ours: the published set uses photographs."""
    height, width, channels = x.shape[1:]
    pieces = []
    for generator in generators:
        texture = frost_texture(generator.randint(TEXTURES))
        top, left = (generator.randint(TEXTURE_SIDE - side) for side in (height, width))
        pieces.append(texture[top : top + height, left : left + width])
    ice = np.stack(pieces)
    if channels == 1:
        ice = luminance(ice)
    return as_pixels(image_share * x + frost_share * ice)


@cache
def frost_texture(number: int) -> Floats:
    """[TEXTURE_SIDE, TEXTURE_SIDE, 3]: needles of ice, ridges of smoothed noise at three scales."""
    generator = RandomState(1000 + number)
    ice = np.zeros((TEXTURE_SIDE, TEXTURE_SIDE))
    for width, weight in ((1.0, 0.25), (2.0, 0.35), (5.0, 0.4)):
        for long_side in ((4 * width, width), (width, 4 * width)):
            field = gaussian_filter(generator.normal(size=ice.shape), long_side, mode="wrap")
            ice += 0.5 * weight * (1 - np.abs(field) / np.abs(field).max()) ** 3
    ice = (ice - ice.min()) / (ice.max() - ice.min())
    return ice[..., None] * np.array(FROST_COLOUR)
