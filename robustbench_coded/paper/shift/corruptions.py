"""The corruptions of CIFAR-10-C (Hendrycks and Dietterich, arXiv 1903.12261) by name and severity, as
functions of whole batches.

Every function takes float images [n, H, W, C] in [0, 1], the constants of one severity and, where it is
random, one generator an image; it returns uint8 images. numpy, scipy and Pillow alone.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import correlate, distance_transform_edt, gaussian_filter, label, sobel, uniform_filter

Floats = NDArray[np.floating]  # [n, H, W, C] in [0, 1]
Pixels = NDArray[np.uint8]  # [n, H, W, C]
Generators = Sequence[RandomState]  # [n], or none for a corruption that draws nothing


def as_pixels(x: Floats) -> Pixels:
    """Bytes of floats; what lies outside [0, 1] is clipped, and fractions are cut off, as in the original."""
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)


def as_floats(pixels: Pixels) -> Floats:
    """Floats in [0, 1] of bytes."""
    return pixels.astype(np.float64) / 255


def luminance(x: Floats) -> Floats:
    """Brightness [n, H, W, 1] by the weights of ITU-R BT.601; a grey image is its own."""
    return x if x.shape[-1] == 1 else (x @ np.array([0.299, 0.587, 0.114]))[..., None]


# What lies beyond an edge: the mirror image without the outermost pixel, or with it.
Edge = Literal["mirror", "reflect"]


def read(
    x: NDArray, rows: NDArray[np.int64], columns: NDArray[np.int64], out: NDArray | None = None
) -> NDArray:
    """Images [n, H, W, C] read at whole places [n, H', W'] inside of them, as [n, H', W', C]."""
    n, height, width, channels = x.shape
    # One index takes a fifth of the time of three.
    places = (np.arange(n)[:, None, None] * height + rows) * width + columns
    return x.reshape(-1, channels).take(places, axis=0, out=out, mode="clip")


def bilinear(x: Floats, rows: Floats, columns: Floats, edge: Edge) -> Floats:
    """Images [n, H, W, C] read at fractional places [n, H', W'], as [n, H', W', C].

    The same as scipy's ``map_coordinates`` of order 1 under that name of the edge, for all images at once.
    """
    height, width = x.shape[1:3]
    top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    above, below = _inside(top, height, edge), _inside(top + 1, height, edge)
    before, behind = _inside(left, width, edge), _inside(left + 1, width, edge)
    first = read(x, above, before) * (1 - right) + read(x, above, behind) * right
    second = read(x, below, before) * (1 - right) + read(x, below, behind) * right
    return first * (1 - down) + second * down


def _inside(places: NDArray[np.int64], size: int, edge: Edge) -> NDArray[np.int64]:
    if size == 1:
        return np.zeros_like(places)
    if edge == "mirror":
        places = np.abs(places) % (2 * size - 2)
        return np.minimum(places, 2 * size - 2 - places)
    places = places % (2 * size)
    return np.minimum(places, 2 * size - 1 - places)


def zoom_matrix(size: int, factor: float) -> Floats:
    """[size, size]: the middle of a line of ``size`` pixels, ``factor`` >= 1 times as large, interpolated.

    The middle ceil(size / factor) pixels are stretched so that the first and last stay where they are, and
    what is too long then is cut off on both sides.
    """
    crop = int(np.ceil(size / factor))
    start, length = (size - crop) // 2, round(crop * factor)
    trimmed = (length - size) // 2
    places = (np.arange(size) + trimmed) * ((crop - 1) / max(length - 1, 1))
    matrix = np.zeros((size, size))
    low = np.minimum(np.floor(places).astype(np.int64), max(crop - 2, 0))
    share = places - low
    lines = np.arange(size)
    matrix[lines, start + low] += 1 - share
    matrix[lines, start + np.minimum(low + 1, crop - 1)] += share
    return matrix


def zoomed(x: Floats, factor: float) -> Floats:
    """The middle of images [n, H, W, C], ``factor`` times as large, at their own size."""
    rows, columns = zoom_matrix(x.shape[1], factor), zoom_matrix(x.shape[2], factor)
    return np.einsum("ih,nhwc,jw->nijc", rows, x, columns, optimize=True)


def gaussian_noise(x: Floats, generators: Generators, deviation: float) -> Pixels:
    """Adds normal noise."""
    return as_pixels(x + deviation * _each(generators, lambda g: g.normal(size=x.shape[1:])))


def shot_noise(x: Floats, generators: Generators, photons: float) -> Pixels:
    """Counts photons: Poisson noise of a pixel that holds ``photons`` of them where it is white."""
    counted = [generator.poisson(image * photons) for image, generator in zip(x, generators, strict=True)]
    return as_pixels(np.stack(counted) / photons)


def impulse_noise(x: Floats, generators: Generators, share: float) -> Pixels:
    """Replaces a share of all values, each channel by itself, by 0 or 1, equally often."""
    replaced = _each(generators, lambda g: g.uniform(size=x.shape[1:])) < share
    white = _each(generators, lambda g: g.uniform(size=x.shape[1:])) < 0.5
    return as_pixels(np.where(replaced, white, x))


def speckle_noise(x: Floats, generators: Generators, deviation: float) -> Pixels:
    """Adds normal noise in proportion to brightness."""
    return as_pixels(x + x * deviation * _each(generators, lambda g: g.normal(size=x.shape[1:])))


def _each(generators: Generators, draw: Callable[[RandomState], Floats]) -> Floats:
    return np.stack([draw(generator) for generator in generators])


def smoothed(x: Floats, sigma: float) -> Floats:
    """Images [n, H, W, C] behind a Gaussian filter of ``sigma`` pixels."""
    return gaussian_filter(x, (0, sigma, sigma, 0), mode="nearest", truncate=4.0)


def gaussian_blur(x: Floats, generators: Generators, sigma: float) -> Pixels:
    """A Gaussian filter."""
    return as_pixels(smoothed(x, sigma))


def disk(radius: float, sigma: float) -> Floats:
    """[5, 5], summing to 1: a disk of at most 1.5 pixels, its edge softened by a 3 x 3 Gaussian."""
    rows, columns = np.mgrid[-2:3, -2:3]
    inside = (rows**2 + columns**2 <= radius**2).astype(np.float64)
    taps = np.exp(-(np.arange(-1, 2) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    return correlate(inside / inside.sum(), np.outer(taps, taps), mode="constant")


def defocus_blur(x: Floats, generators: Generators, radius: float, sigma: float) -> Pixels:
    """A lens out of focus: every point a disk."""
    return as_pixels(correlate(x, disk(radius, sigma)[None, :, :, None], mode="mirror"))


def glass_blur(x: Floats, generators: Generators, sigma: float, reach: float, rounds: float) -> Pixels:
    """Frosted glass: pixels take the value of a neighbour above or to the left, between two Gaussian filters.

    The published set was meant to swap neighbours. What its program does is to copy, since one of the two
    values is overwritten before it is read; this does the same, for reach 1.
    """
    pixels = as_pixels(smoothed(x, sigma))
    height, width = x.shape[1:3]
    start = int(reach) + 1
    rows, columns = np.arange(start, height)[:, None], np.arange(start, width)
    for _ in range(int(rounds)):
        size = (max(height - start, 0), max(width - start, 0), 2)
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


def motion_blur(x: Floats, generators: Generators, radius: float, sigma: float) -> Pixels:
    """A camera that moved, within 45 degrees of sideways."""
    degrees = np.array([generator.uniform(-45, 45) for generator in generators])
    return np.round(moved(x, radius, sigma, degrees) * 255).astype(np.uint8)


def zoom_blur(x: Floats, generators: Generators, below: float, step: float) -> Pixels:
    """A lens that zoomed while the shutter was open: the mean of the image and of its zooms from 1."""
    zooms = np.arange(1, below, step)
    total = x + sum(zoomed(x, zoom) for zoom in zooms)
    return as_pixels(total / (len(zooms) + 1))


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


def brightness(x: Floats, generators: Generators, more: float) -> Pixels:
    """Raises the value of hue, saturation and value; a black pixel becomes grey."""
    value = x.max(axis=-1, keepdims=True)
    brighter = np.clip(value + more, 0, 1)
    return as_pixels(np.where(value > 0, x / np.where(value > 0, value, 1), 1) * brighter)


def contrast(x: Floats, generators: Generators, factor: float) -> Pixels:
    """Draws every channel towards its mean."""
    mean = x.mean(axis=(1, 2), keepdims=True)
    return as_pixels((x - mean) * factor + mean)


def saturate(x: Floats, generators: Generators, factor: float, offset: float) -> Pixels:
    """Changes the saturation of hue, saturation and value; where there is none, the hue is red."""
    value, lowest = x.max(axis=-1, keepdims=True), x.min(axis=-1, keepdims=True)
    spread = value - lowest
    saturation = np.divide(spread, value, out=np.zeros_like(value), where=value > 0)
    # How far each channel lies from the highest to the lowest.
    depth = np.where(spread > 0, (value - x) / np.where(spread > 0, spread, 1), np.arange(x.shape[-1]) > 0)
    return as_pixels(value * (1 - np.clip(saturation * factor + offset, 0, 1) * depth))


def elastic_transform(
    x: Floats, generators: Generators, displacement: float, sigma: float, corners: float
) -> Pixels:
    """A random affine map, then a smooth random displacement of every pixel. Unit of length: the side."""
    height, width = x.shape[1:3]
    side = height
    shift = np.stack([g.uniform(-corners * side, corners * side, (3, 2)) for g in generators])
    x = _affine(x, shift)
    moves = []
    for _ in range(2):
        noise = np.stack([generator.uniform(-1, 1, (height, width)) for generator in generators])
        widths = (0, sigma * side, sigma * side)
        moves.append(displacement * side * gaussian_filter(noise, widths, mode="reflect", truncate=3.0))
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    return as_pixels(bilinear(x, rows + moves[1], columns + moves[0], "reflect"))


def _affine(x: Floats, shift: Floats) -> Floats:
    """The affine map that moves three points around the middle by ``shift`` [n, 3, (right, down)] pixels."""
    height, width = x.shape[1:3]
    middle = np.array([width // 2, height // 2], dtype=np.float64)
    reach = min(height, width) // 3
    points = middle + reach * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = points + shift
    # Row by row: [right, down, 1] of the new image @ inverse = [right, down] of the old one.
    corners = np.concatenate([moved, np.ones((len(x), 3, 1))], axis=-1)
    inverse = np.linalg.solve(corners, np.broadcast_to(points, moved.shape))
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    places = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    old = np.einsum("hwi,nij->nhwj", places, inverse)
    return bilinear(x, old[..., 1], old[..., 0], "mirror")


def pixelate(x: Floats, generators: Generators, share: float) -> Pixels:
    """Scales down to ``share`` of the side and up again, by the means of boxes."""

    def coarser(image: Image.Image) -> Image.Image:
        small = [max(int(side * share), 1) for side in image.size]
        return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)

    return np.stack([_array(coarser(image)) for image in _images(x)])


def jpeg_compression(x: Floats, generators: Generators, quality: float) -> Pixels:
    """Writes a JPEG file and reads it back."""

    def through_file(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(quality))
        return Image.open(file)

    return np.stack([_array(through_file(image)) for image in _images(x)])


def _images(x: Floats) -> list[Image.Image]:
    pixels = np.round(x * 255).astype(np.uint8)
    return [Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in pixels]


def _array(image: Image.Image) -> Pixels:
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


TEXTURES, TEXTURE_SIDE = 5, 224
FROST_COLOUR = (0.90, 0.97, 1.0)


def snow(
    x: Floats,
    generators: Generators,
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


def fog(x: Floats, generators: Generators, thickness: float, decay: float) -> Pixels:
    """A cloud of fractal density, and the whole darkened so that white stays white."""
    height, width = x.shape[1:3]
    cloud = plasma(generators, 1 << int(np.ceil(np.log2(max(height, width)))), decay)
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    foggy = x + thickness * cloud[:, :height, :width, None]
    return as_pixels(foggy * brightest / (brightest + thickness))


def plasma(generators: Generators, side: int, decay: float) -> Floats:
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


def frost(x: Floats, generators: Generators, image_share: float, frost_share: float) -> Pixels:
    """Ice on the window. The textures are ours, and repeat themselves: the published set uses photographs."""
    sides = x.shape[1:3]
    pieces = []
    for generator in generators:
        texture = frost_texture(generator.randint(TEXTURES))
        # A smaller image lies within one texture, a larger one begins anywhere.
        rows, columns = (
            (generator.randint(TEXTURE_SIDE - side * (side < TEXTURE_SIDE)) + np.arange(side)) % TEXTURE_SIDE
            for side in sides
        )
        pieces.append(texture[np.ix_(rows, columns)])
    ice = np.stack(pieces)
    if x.shape[-1] == 1:
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


WATER = np.array([175, 238, 238]) / 255  # pale turquoise
MUD = np.array([63, 42, 20]) / 255
FARTHEST = 20  # pixels from the rim of a drop
EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])


def spatter(
    x: Floats,
    generators: Generators,
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


VERSION = 2  # of the pixels that come out; another one has other pixels
CHUNK = 25  # images in one call: few enough for a processor's cache
NEEDS_COLOUR = ("saturate",)

_CORRUPTIONS: tuple[Callable[..., Pixels], ...] = (
    gaussian_noise, shot_noise, impulse_noise, speckle_noise, gaussian_blur, defocus_blur, glass_blur,
    motion_blur, zoom_blur, snow, frost, fog, brightness, contrast, elastic_transform, pixelate,
    jpeg_compression, spatter, saturate,
)  # fmt: skip
_FUNCTIONS = {function.__name__: function for function in _CORRUPTIONS}


def corruptions_for(channels: int) -> tuple[str, ...]:
    """The corruptions that images of so many channels can have; a grey one has no saturation."""
    return tuple(name for name in CONSTANTS if channels > 1 or name not in NEEDS_COLOUR)


def corrupt(
    images: Pixels, numbers: Sequence[int] | np.ndarray, name: str, severity: int, seed: int
) -> Pixels:
    """Corrupted images.

    Args:
        images: uint8 [n, H, W, C], C 1 or 3.
        numbers: [n], the images' places in their data set: they and ``seed`` name the random numbers, so that
            a part of a set is corrupted as it is within the whole.
        name: of `CONSTANTS`. severity: 1 to 5.

    Raises:
        ValueError: another name or severity, or images of another type.
    """
    if name not in CONSTANTS or severity not in SEVERITIES:
        raise ValueError(
            f"expected a corruption out of {', '.join(CONSTANTS)} at 1 to 5, got {name} {severity}"
        )
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(numbers):
        raise ValueError(f"expected uint8 [n, H, W, C] and n numbers, got {images.dtype} {images.shape}")
    constants = CONSTANTS[name][severity - 1]
    # Seeding a generator again takes a tenth of the time of making another.
    generators = [RandomState(0) for _ in range(min(CHUNK, len(images)))]
    pieces = []
    for start in range(0, len(images), CHUNK):
        for generator, number in zip(generators, numbers[start : start + CHUNK]):
            generator.seed(_seed(seed, name, severity, int(number)))
        x = as_floats(images[start : start + CHUNK])
        pieces.append(_FUNCTIONS[name](x, generators[: len(x)], *constants))
    return np.concatenate(pieces) if pieces else images


def _seed(seed: int, name: str, severity: int, number: int) -> np.ndarray:
    """What seeds one image's RandomState, whose stream is frozen by numpy's compatibility policy."""
    digest = hashlib.blake2b(f"{seed}/{name}/{severity}/{number}".encode(), digest_size=16).digest()
    return np.frombuffer(digest, dtype="<u4")
