"""Few images of a data set that stand for all of it."""

import torch
from torch import Tensor

BLOCK, DRAWN, POOL = 16, 200, 1024


@torch.no_grad()
def representative_order(images: Tensor, count: int) -> Tensor:
    """Indices of at most ``count`` images [n, C, H, W], the same each time; all n where there are so few.

    Every beginning of them has nearly the brightness, contrast and texture of all images: of many blocks that
    are drawn at random, always the one goes on that brings the sums of these features nearest to 0.
    """
    x = images.float().cpu()
    steps = torch.cat([(x[..., 1:] - x[..., :-1]).flatten(2), (x[:, :, 1:] - x[:, :, :-1]).flatten(2)], 2)
    features = torch.cat([x.mean((2, 3)), x.var((2, 3)), steps.square().mean(2)], 1).double()
    features = (features - features.mean(0)) / features.std(0, correction=0).clamp(min=1e-12)
    generator = torch.Generator().manual_seed(0)
    pool = torch.randperm(len(images), generator=generator)[: max(POOL, count)]
    total, blocks = torch.zeros(features.shape[1]).double(), list[Tensor]()
    while len(pool) >= 2 * BLOCK and len(blocks) * BLOCK < count:
        drawn = torch.rand(DRAWN, len(pool), generator=generator).topk(BLOCK).indices
        sums = total + features[pool[drawn]].sum(1)
        best = drawn[int(sums.square().sum(1).argmin())]
        total = total + features[pool[best]].sum(0)
        blocks.append(pool[best])
        pool = pool[~torch.isin(torch.arange(len(pool)), best)]
    return torch.cat([*blocks, pool])[: min(count, len(images))]
