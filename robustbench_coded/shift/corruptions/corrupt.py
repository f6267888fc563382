"""Corruptions by name and severity, seeded image by image."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import RandomState

from robustbench_coded.shift.corruptions import blur, digital, noise, weather
from robustbench_coded.shift.corruptions.constants import CONSTANTS, SEVERITIES
from robustbench_coded.shift.corruptions.pixels import Pixels, as_floats
from robustbench_coded.shift.corruptions.spatter import spatter

VERSION = 1  # of the pixels that come out; another one has other pixels
CHUNK = 25  # images in one call: few enough for a processor's cache
NEEDS_COLOUR = ("saturate",)
# These draw nothing.
FIXED = (
    "defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression", "gaussian_blur",
    "saturate",
)  # fmt: skip

_FUNCTIONS: dict[str, Callable[..., Pixels]] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": digital.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
    "speckle_noise": noise.speckle_noise,
    "gaussian_blur": blur.gaussian_blur,
    "spatter": spatter,
    "saturate": digital.saturate,
}


def corruptions_for(channels: int) -> tuple[str, ...]:
    """The corruptions that images of so many channels can have; a grey one has no saturation."""
    return tuple(name for name in _FUNCTIONS if channels > 1 or name not in NEEDS_COLOUR)


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
    generators = [RandomState(0) for _ in range(0 if name in FIXED else min(CHUNK, len(images)))]
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
