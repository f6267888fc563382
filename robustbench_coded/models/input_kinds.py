"""Images as networks see them in training. Batch-norms remember those, not the bare images of a test set."""

from collections.abc import Callable

import torch
from torch import Tensor

from robustbench_coded.data.augment import shift, shift_and_flip

Kind = Callable[[Tensor, torch.Generator], Tensor]


def mixed(share: float, alpha: float) -> Kind:
    """Mixup (arXiv 1710.09412) of that share of shifted images; coded training looks much alike."""

    def kind(x: Tensor, generator: torch.Generator) -> Tensor:
        x = _augmented(x, generator)
        weights = 1 - _beta(len(x), alpha, generator).view(-1, 1, 1, 1)
        weights[torch.rand(len(x), generator=generator) >= share] = 0
        partners = x[torch.randperm(len(x), generator=generator)]
        return torch.lerp(x, partners, weights.to(x.dtype))

    return kind


def cut_and_mixed(x: Tensor, generator: torch.Generator) -> Tensor:
    """CutMix (arXiv 1905.04899): a rectangle of random area from another image, in shifted images."""
    x = _augmented(x, generator)
    partners = x[torch.randperm(len(x), generator=generator)]
    _, _, height, width = x.shape
    areas, tops, lefts = (torch.rand(len(x), generator=generator) for _ in range(3))
    rows, columns = torch.arange(height), torch.arange(width)
    mixed = x.clone()
    for i, (side, top, left) in enumerate(zip(areas.sqrt(), tops * height, lefts * width, strict=True)):
        inside = ((rows - top).abs() < side * height / 2)[:, None] & (
            (columns - left).abs() < side * width / 2
        )
        mixed[i][:, inside] = partners[i][:, inside]
    return mixed


def noisy(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images with random signs as large as adversarial training's: 8/255, in one channel 0.2."""
    x = _augmented(x, generator)
    signs = torch.randint(2, x.shape, generator=generator) * 2 - 1
    return (x + (8 / 255 if x.shape[1] == 3 else 0.2) * signs).clamp(0, 1)


def plain(x: Tensor, generator: torch.Generator) -> Tensor:
    """The images themselves."""
    return x


# By name, the usual one first. Shifts of digits and letters come without flips.
KINDS: dict[str, Kind] = {
    "shifted and flipped": shift_and_flip,
    "shifted": shift,
    "plain": plain,
    "mixed up": mixed(1.0, 1.0),
    "mixed up with alpha 0.2": mixed(1.0, 0.2),
    "half of them mixed up": mixed(0.5, 1.0),
    "cut and mixed": cut_and_mixed,
    "noisy": noisy,
}


def _augmented(x: Tensor, generator: torch.Generator) -> Tensor:
    """Colour images shifted and flipped; digits and letters as they are."""
    return shift_and_flip(x, generator) if x.shape[1] == 3 else x


def images_of_kind(kind: str, images: Tensor) -> Tensor:
    """images [n, C, H, W] in [0, 1] as in that kind of training; the same each time."""
    return KINDS[kind](images.clone(), torch.Generator().manual_seed(0))


def _beta(count: int, alpha: float, generator: torch.Generator) -> Tensor:
    """Draws of Beta(alpha, alpha), by Joehnk's method for alpha <= 1, from that generator alone."""
    draws = torch.empty(0, dtype=torch.float64)
    while len(draws) < count:
        u = torch.rand(2, 4 * count, generator=generator, dtype=torch.float64) ** (1 / alpha)
        inside = (u.sum(0) <= 1) & (u.sum(0) > 0)
        draws = torch.cat([draws, (u[0] / u.sum(0))[inside]])
    return draws[:count]
