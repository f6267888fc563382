"""Random shifts and flips of training images, image by image."""

import torch
from torch import Tensor
from torch.nn.functional import pad


def shift(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pads ``x`` ``[k, C, H, W]`` with zeros by an eighth of its size and cuts the size out at random."""
    k, _, height, width = x.shape
    down, right = height // 8, width // 8
    padded = pad(x, (right, right, down, down))
    tops = torch.randint(2 * down + 1, (k,), generator=generator).tolist()
    lefts = torch.randint(2 * right + 1, (k,), generator=generator).tolist()
    places = zip(padded, tops, lefts)
    return torch.stack([image[:, top : top + height, left : left + width] for image, top, left in places])


def shift_and_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """A random shift (four pixels either way at 32 x 32, as usual on CIFAR) and a fair left-right flip."""
    x = shift(x, generator)
    flipped = torch.rand(len(x), generator=generator) < 0.5
    x[flipped] = x[flipped].flip(-1)
    return x


def unchanged(x: Tensor, generator: torch.Generator) -> Tensor:
    """No augmentation."""
    return x


AUGMENTATIONS = {"none": unchanged, "shift": shift, "shift-flip": shift_and_flip}
