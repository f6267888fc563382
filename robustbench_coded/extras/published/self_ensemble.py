"""Published ensembles of one network's own features: of resolutions and layers, or of translations."""

from functools import reduce
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, one_hot, pad

from robustbench_coded.defences.protocol import Deterministic, Seeded, WrappedNetwork
from robustbench_coded.extras.published.registry import PaperRecord
from robustbench_coded.models.pixel_model import blocks_of

ENSEMBLE_EVERYTHING = PaperRecord(
    about="Ensemble everything everywhere: noisy resolutions, and a head on each layer",
    title="Ensemble everything everywhere: Multi-scale aggregation for adversarial robustness",
    arxiv="2408.05446",
    section="3",
    year=2024,
    random="Gaussian noise on each resolution",
    claim="about 72% on CIFAR-10 at linf 8/255 under AutoAttack without adversarial training, 78% with it",
    setting="three resolutions that a given network answers one by one, heads by least squares from 256 "
    "images and the network's own answers; the paper trains a network on a stack of four resolutions",
    breaks=(("2411.14834", "62% on CIFAR-10 fall to 4%: randomness and aggregation mask gradients"),),
)
RESOLUTIONS = (1.0, 0.75, 0.5)
NOISE = 0.1
RIDGE = 0.01  # of the mean of the squares
SIDE = 4  # of the features that a head sees


class EnsembleEverything(WrappedNetwork, Seeded):
    """Heads on the outputs of all convolutions at three resolutions, aggregated by CrossMax."""

    def __init__(self, model: nn.Module, pool: Tensor):
        super().__init__(model)
        self.layers = [part for part in model.modules() if isinstance(part, nn.Conv2d)]
        with torch.no_grad():
            answers = model(pool)
            targets = one_hot(answers.argmax(-1), answers.shape[-1]).to(answers) - 1 / answers.shape[-1]
            self.heads = [_head(seen, targets) for seen in self._features(pool, 0)]

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``."""
        return k * len(RESOLUTIONS)

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        seen = zip(self._features(x, draw), self.heads, strict=True)
        return 10 * cross_max(torch.stack([features @ head for features, head in seen], dim=1))

    def _features(self, x: Tensor, draw: int) -> list[Tensor]:
        """What each head sees [k, features]: every resolution's layers, and a constant."""
        generator, outputs = torch.Generator().manual_seed(draw), []
        hooks = [layer.register_forward_hook(lambda *call: outputs.append(call[2])) for layer in self.layers]
        try:
            for share in RESOLUTIONS:
                size = [round(share * side) for side in x.shape[-2:]]
                small = interpolate(x, size=size, mode="bilinear", antialias=True)
                small = small + NOISE * torch.randn(small.shape, generator=generator).to(x)
                self.model(interpolate(small, size=x.shape[-2:], mode="bilinear"))
        finally:
            for hook in hooks:
                hook.remove()
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


SRLE = PaperRecord(
    about="Stochastic resonance: features of translated inputs, aligned and averaged",
    title="Test-Time Defense Against Adversarial Attacks via Stochastic Resonance of Latent Ensembles",
    arxiv="2510.03224",
    section="3",
    year=2025,
    claim="recovers up to 68.1% of the accuracy that attacks take on image classification, relative to clean "
    "accuracy, on CIFAR-10 and ImageNet; stays competitive under adaptive attacks",
    setting="the nine translations by at most one pixel, features before the network's last block; written "
    "from the abstract and public reviews, which name integer translations, alignment after upsampling and "
    "PGD-20 and PGD-100 around adversarially trained networks; no code was found",
)
FARTHEST = 1  # pixels


class Srle(WrappedNetwork, Deterministic):
    """Features of every translated input, moved back at the size of the image and averaged.

    The last block of the network answers the mean. A network that is a single block is translated as a whole,
    and its logits are averaged.
    """

    def __init__(self, model: nn.Module):
        super().__init__(model)
        *self.encoder, self.head = blocks_of(model)
        if not self.encoder:
            self.encoder, self.head = [self.head], nn.Identity()
        reach = range(-FARTHEST, FARTHEST + 1)
        self.moves = list(product(reach, reach))

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``."""
        return k * len(self.moves)

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        moved = torch.cat([translated(x, down, right) for down, right in self.moves])
        features = reduce(lambda a, block: block(a), self.encoder, moved)
        if features.ndim == 4:
            height, width = features.shape[-2:]
            large = features.repeat_interleave(x.shape[-2] // height, -2)
            large = large.repeat_interleave(x.shape[-1] // width, -1)
            back = [
                translated(part, -down, -right)
                for part, (down, right) in zip(large.split(len(x)), self.moves, strict=True)
            ]
            features = adaptive_avg_pool2d(torch.cat(back), (height, width))
        return self.head(features.unflatten(0, (len(self.moves), len(x))).mean(0))


def translated(x: Tensor, down: int, right: int) -> Tensor:
    """x [k, C, H, W] moved by whole pixels; its edges are repeated."""
    height, width = x.shape[-2:]
    reach = max(abs(down), abs(right))
    wide = pad(x, (reach,) * 4, mode="replicate")
    return wide[..., reach - down : reach - down + height, reach - right : reach - right + width]
