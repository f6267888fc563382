"""Augmentations: those of training, and the kinds of images that other trainings show a network's batch-
norms.
"""

from collections.abc import Callable

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
    """The images themselves."""
    return x


def mixed_up(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mixup (arXiv 1710.09412) of shifted images with uniform weights; coded training looks much alike."""
    x = _augmented(x, generator)
    return torch.lerp(x, x.roll(1, 0), torch.rand(len(x), 1, 1, 1, generator=generator).to(x.dtype))


def noisy(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images with random signs as large as adversarial training's: 8/255, in one channel 0.2."""
    x = _augmented(x, generator)
    signs = torch.randint(2, x.shape, generator=generator) * 2 - 1
    return (x + (8 / 255 if x.shape[1] == 3 else 0.2) * signs).clamp(0, 1)


# By name, the usual one first. Shifts of digits and letters come without flips.
KINDS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "shifted and flipped": shift_and_flip,
    "shifted": shift,
    "plain": unchanged,
    "mixed up": mixed_up,
    "noisy": noisy,
}


def _augmented(x: Tensor, generator: torch.Generator) -> Tensor:
    """Colour images shifted and flipped; digits and letters as they are."""
    return shift_and_flip(x, generator) if x.shape[1] == 3 else x
