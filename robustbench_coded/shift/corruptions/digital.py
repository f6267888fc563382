"""What cameras and files do: brightness, contrast, saturation, elastic distortion, pixels, JPEG."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.random import RandomState
from PIL import Image
from scipy.ndimage import gaussian_filter

from robustbench_coded.shift.corruptions.pixels import Floats, Pixels, as_pixels
from robustbench_coded.shift.corruptions.resampling import bilinear


def brightness(x: Floats, generators: Sequence[RandomState], more: float) -> Pixels:
    """Raises the value of hue, saturation and value; a black pixel becomes grey."""
    value = x.max(axis=-1, keepdims=True)
    brighter = np.clip(value + more, 0, 1)
    return as_pixels(np.where(value > 0, x / np.where(value > 0, value, 1), 1) * brighter)


def contrast(x: Floats, generators: Sequence[RandomState], factor: float) -> Pixels:
    """Draws every channel towards its mean."""
    mean = x.mean(axis=(1, 2), keepdims=True)
    return as_pixels((x - mean) * factor + mean)


def saturate(x: Floats, generators: Sequence[RandomState], factor: float, offset: float) -> Pixels:
    """Changes the saturation of hue, saturation and value; where there is none, the hue is red."""
    value, lowest = x.max(axis=-1, keepdims=True), x.min(axis=-1, keepdims=True)
    spread = value - lowest
    saturation = np.divide(spread, value, out=np.zeros_like(value), where=value > 0)
    # How far each channel lies from the highest to the lowest.
    depth = np.where(spread > 0, (value - x) / np.where(spread > 0, spread, 1), np.arange(x.shape[-1]) > 0)
    return as_pixels(value * (1 - np.clip(saturation * factor + offset, 0, 1) * depth))


def elastic_transform(
    x: Floats, generators: Sequence[RandomState], displacement: float, sigma: float, corners: float
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


def pixelate(x: Floats, generators: Sequence[RandomState], share: float) -> Pixels:
    """Scales down to ``share`` of the side and up again, by the means of boxes."""

    def coarser(image: Image.Image) -> Image.Image:
        small = [max(int(side * share), 1) for side in image.size]
        return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)

    return np.stack([_array(coarser(image)) for image in _images(x)])


def jpeg_compression(x: Floats, generators: Sequence[RandomState], quality: float) -> Pixels:
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
