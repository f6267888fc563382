"""Mixup inference with other labels (MI-OL, arXiv 1909.11515): answers are means over mixtures of images."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MixupInference:
    """Averages the network's probabilities over mixtures ``share`` x + (1 - ``share``) x_s.

    The x_s come from a pool of images and belong, by the network's own prediction, to other classes than x is
    given. Logits are logarithms of the averaged probabilities. A draw is uniform numbers [k, samples] in [0,
    1) that pick the x_s of each slot among the images allowed to it.

    Args:
        model: pixels -> logits.
        pool: images [P, C, H, W] in [0, 1] that are not evaluated; on the model's device.
        share: weight of the input in each mixture, above 0 and at most 1. The paper's is 0.5.
        samples: mixtures averaged in one answer. The paper averages 30.
        name: as tables name it.
    Raises:
        ValueError: the network gives all of the pool to one class, so that no image of another one is there.
    """

    randomised = True
    batch_dependent = False

    def __init__(
        self, model: nn.Module, pool: Tensor, share: float, samples: int, *, name: str = "mixup-inference"
    ):
        self.name = name
        self.model = model
        self.base: nn.Module | None = model
        self.share = share
        self.samples = samples
        with torch.no_grad():
            logits = model(pool)
        given = logits.argmax(-1)
        if len(given.unique()) < 2:
            raise ValueError(
                f"expected a pool of two predicted classes or more, got {len(pool)} images of one"
            )
        # Sorted by class, the images that are not of class c are those outside one interval.
        self.pool = pool[given.argsort(stable=True)]
        self._counts = torch.bincount(given, minlength=logits.shape[-1])
        self._starts = self._counts.cumsum(0) - self._counts

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``: each input as it is, then its mixtures."""
        return k * (1 + self.samples)

    def sample(self, generator: torch.Generator, k: int) -> Tensor:
        return torch.rand(k, self.samples, generator=generator)

    def logits(self, x: Tensor, draw: Tensor) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        others = self.pool[self.partners(x, draw)].to(x)
        mixed = self.share * x.unsqueeze(1) + (1 - self.share) * others
        log_probabilities = self.model(mixed.flatten(0, 1)).log_softmax(-1).unflatten(0, draw.shape)
        return log_probabilities.logsumexp(1) - torch.tensor(self.samples).log().item()

    def logits_grouped(self, x: Tensor, draws: Sequence[Tensor]) -> Tensor:
        """[G, K, C, H, W] -> [G, K, classes]."""
        return self.logits(x.flatten(0, 1), torch.cat(list(draws))).unflatten(0, x.shape[:2])

    @torch.no_grad()
    def partners(self, x: Tensor, draw: Tensor) -> Tensor:
        """Indices into the pool, int64 [k, samples], of images that the network puts into other classes."""
        predicted = self.model(x).argmax(-1)
        counts, starts = self._counts[predicted].unsqueeze(1), self._starts[predicted].unsqueeze(1)
        rank = (draw.to(counts.device).double() * (len(self.pool) - counts)).long()
        return torch.where(rank < starts, rank, rank + counts)
