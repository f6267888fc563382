"""Published ensembles of one network's own features: of resolutions and layers, or of translations."""

from functools import reduce
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, one_hot, pad

from robustbench_coded.defences.protocol import Deterministic, Seeded, WrappedNetwork, normal
from robustbench_coded.extras.published.activations import convolved
from robustbench_coded.models.pixel_model import blocks_of

RESOLUTIONS = (1.0, 0.75, 0.5)
NOISE = 0.1
RIDGE = 0.01  # of the mean of the squares
SIDE = 4  # of the features that a head sees


class EnsembleEverything(WrappedNetwork, Seeded):
    """Heads on the outputs of all convolutions at three resolutions, aggregated by CrossMax."""

    passes = len(RESOLUTIONS)

    def __init__(self, model: nn.Module, pool: Tensor):
        super().__init__(model)
        with torch.no_grad():
            answers = model(pool)
            targets = one_hot(answers.argmax(-1), answers.shape[-1]).to(answers) - 1 / answers.shape[-1]
            self.heads = [_head(seen, targets) for seen in self._features(pool, 0)]

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        seen = zip(self._features(x, draw), self.heads, strict=True)
        return 10 * cross_max(torch.stack([features @ head for features, head in seen], dim=1))

    def _features(self, x: Tensor, draw: int) -> list[Tensor]:
        """What each head sees [k, features]: every resolution's layers, and a constant."""
        generator, outputs = torch.Generator().manual_seed(draw), list[Tensor]()
        for share in RESOLUTIONS:
            size = [round(share * side) for side in x.shape[-2:]]
            small = interpolate(x, size=size, mode="bilinear", antialias=True)
            noisy = small + NOISE * normal(generator, small)
            outputs += convolved(self.model, interpolate(noisy, size=x.shape[-2:], mode="bilinear"))
        pooled = [adaptive_avg_pool2d(output.relu(), SIDE).flatten(1) for output in outputs]
        return [torch.cat([features, torch.ones_like(features[:, :1])], dim=1) for features in pooled]


def _head(features: Tensor, targets: Tensor) -> Tensor:
    """The least-squares map [features, classes] with a ridge."""
    square = features.T @ features
    ridge = RIDGE * square.diagonal().mean() * torch.eye(len(square)).to(square)
    return torch.linalg.solve(square + ridge, features.T @ targets)


def cross_max(answers: Tensor) -> Tensor:
    """Answers [k, members, classes] less each member's and each class's largest: the median, [k, classes]."""
    answers = answers - answers.amax(2, keepdim=True)
    answers = answers - answers.amax(1, keepdim=True)
    return answers.median(1).values


# By which images are translated, down and to the right, in pixels.
MOVES = tuple(product((-1, 0, 1), repeat=2))


class Srle(WrappedNetwork, Deterministic):
    """Features of every translated input, moved back at the size of the image and averaged.

    The last block of the network answers the mean. A network that is a single block is translated as a whole,
    and its logits are averaged.
    """

    passes = len(MOVES)

    def __init__(self, model: nn.Module):
        super().__init__(model)
        *self.encoder, self.head = blocks_of(model)
        if not self.encoder:
            self.encoder, self.head = [self.head], nn.Identity()

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        moved = torch.cat([translated(x, down, right) for down, right in MOVES])
        features = reduce(lambda a, block: block(a), self.encoder, moved)
        if features.ndim == 4:
            height, width = features.shape[-2:]
            large = features.repeat_interleave(x.shape[-2] // height, -2)
            large = large.repeat_interleave(x.shape[-1] // width, -1)
            back = [
                translated(part, -down, -right)
                for part, (down, right) in zip(large.split(len(x)), MOVES, strict=True)
            ]
            features = adaptive_avg_pool2d(torch.cat(back), (height, width))
        return self.head(features.unflatten(0, (len(MOVES), len(x))).mean(0))


def translated(x: Tensor, down: int, right: int) -> Tensor:
    """x [k, C, H, W] moved by whole pixels; its edges are repeated."""
    height, width = x.shape[-2:]
    reach = max(abs(down), abs(right))
    wide = pad(x, (reach,) * 4, mode="replicate")
    return wide[..., reach - down : reach - down + height, reach - right : reach - right + width]
