"""Image files decoded when a batch asks for them, scaled and cropped by torchvision."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from robustbench_coded.errors import InputError

# Decoded at once: what an image needs before it is cropped can be a hundred times what is left of it.
WORKERS = 4


@dataclass(frozen=True)
class Preprocessing:
    """What happens to an image before it is a network's input.

    Attributes:
        crop: height and width of what is cut out of the middle.
        resize: the shorter side is scaled to this before; None leaves the image as it is. Where nothing is
            cut, both sides are scaled to it.
        bicubic: how it is scaled; bilinear otherwise.
    """

    crop: int | None
    resize: int | None
    bicubic: bool = False

    @classmethod
    def named(cls, name: str) -> Preprocessing:
        """``Res256Crop224``, ``BicubicRes256Crop224``, ``Res224`` or ``Crop288``, as RobustBench names them.

        Raises:
            InputError: another form.
        """
        match = re.fullmatch(r"(Bicubic)?(?:Res(\d{1,4}))?(?:Crop(\d{1,4}))?", name, re.ASCII)
        if match is None or not (match[2] or match[3]) or (match[1] and not match[2]):
            raise InputError(
                f"+prep={name}: expected a form as Res256Crop224, BicubicRes256Crop224 or Crop288"
            )
        resize, crop = (int(value) if value else None for value in (match[2], match[3]))
        if min(resize or 8, crop or 8) < 8 or (resize and crop and crop > resize):
            raise InputError(f"+prep={name}: expected sizes from 8, and no crop larger than the image")
        return cls(crop, resize, bool(match[1]))

    @property
    def size(self) -> int:
        """Height and width of the result in pixels."""
        size = self.crop or self.resize
        assert size is not None
        return size

    def __str__(self) -> str:
        how = "bicubic" if self.bicubic else "bilinear"
        scaled = f"scaled to {self.resize} ({how})" if self.resize else "not scaled"
        return f"{scaled}, {self.crop} x {self.crop} cut from the middle" if self.crop else scaled

    def __call__(self, image: Image.Image) -> Image.Image:
        from torchvision.transforms import functional as transforms

        how = transforms.InterpolationMode.BICUBIC if self.bicubic else transforms.InterpolationMode.BILINEAR
        if self.resize is not None:
            # One number scales the shorter side, two scale both.
            size = [self.resize] if self.crop else [self.resize, self.resize]
            image = transforms.resize(image, size, interpolation=how)
        return transforms.center_crop(image, [self.crop, self.crop]) if self.crop else image


class ImageFiles:
    """``[n, H, W, 3]`` uint8 pixels of image files, all of the preprocessing's size."""

    def __init__(self, paths: Sequence[Path], preprocessing: Preprocessing):
        self._paths = list(paths)
        self._preprocessing = preprocessing

    @property
    def shape(self) -> tuple[int, ...]:
        size = self._preprocessing.size
        return (len(self._paths), size, size, 3)

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        pixels = np.empty((len(rows), *self.shape[1:]), np.uint8)
        with ThreadPoolExecutor(WORKERS) as pool:  # decoding releases the interpreter's lock
            for place, image in enumerate(pool.map(self._decode, [self._paths[row] for row in rows])):
                pixels[place] = image
        return pixels

    def _decode(self, path: Path) -> np.ndarray:
        try:
            with Image.open(path) as image:
                return np.asarray(self._preprocessing(image.convert("RGB")))
        except (
            UnidentifiedImageError,
            OSError,
            SyntaxError,
            ValueError,
            Image.DecompressionBombError,
        ) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: not a readable image ({reason}); replace or remove it") from error
