"""An order of images in which every beginning has nearly the brightness, contrast and texture of them all.

What a first layer sees are moments of neighbouring pixels. A few images drawn blindly have others than all,
and all candidates seem farther from what they remember, by as much as a wrong normalisation would. So each
block is the best of many that are drawn: rejective sampling, which keeps the spread inside a block.
"""

import torch
from torch import Tensor

BLOCK = 16
DRAWN = 1000
DIRECTIONS = 8  # of the features, those in which images differ most
POOL = 1024


@torch.no_grad()
def balanced_order(images: Tensor, count: int) -> Tensor:
    """Indices of at most ``count`` images [n, C, H, W], the same each time; all n where there are so few."""
    features = _features(images)
    centred = (features - features.mean(0)) / features.std(0, correction=0).clamp(min=1e-12)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    along = centred @ vectors[:, -DIRECTIONS:]
    along = along / along.std(0, correction=0).clamp(min=1e-12)
    generator = torch.Generator().manual_seed(0)
    left = torch.randperm(len(images), generator=generator)[: max(POOL, count)]
    total, blocks = along.new_zeros(along.shape[1]), list[Tensor]()
    while len(left) >= 2 * BLOCK and len(blocks) * BLOCK < count:
        blocks_in_one = len(left) // BLOCK
        shuffled = [torch.randperm(len(left), generator=generator) for _ in range(-(-DRAWN // blocks_in_one))]
        drawn = torch.cat([order[: blocks_in_one * BLOCK].view(-1, BLOCK) for order in shuffled])
        sums = total + along[left[drawn]].sum(1)
        best = int(sums.square().sum(1).argmin())
        blocks.append(left[drawn[best]])
        total = sums[best]
        left = left[~torch.isin(torch.arange(len(left)), drawn[best])]
    return torch.cat([*blocks, left])[: min(count, len(images))]


def _features(images: Tensor) -> Tensor:
    """[n, features]: moments of the pixels of each image and of pixels one and two apart."""
    x = images.float()
    flat = x.flatten(2)
    covariances = torch.einsum("nci,ndi->ncd", flat, flat) / flat.shape[2]
    one, other = torch.triu_indices(x.shape[1], x.shape[1])
    found = [flat.mean(2), covariances[:, one, other]]
    for apart in (1, 2):
        found.append((x[..., apart:] * x[..., :-apart]).mean((2, 3)))
        found.append((x[:, :, apart:] * x[:, :, :-apart]).mean((2, 3)))
    return torch.cat(found, 1).double()
