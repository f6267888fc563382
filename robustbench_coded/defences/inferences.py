"""Inferences besides coded ones: standard, Gaussian noise, mixup (arXiv 1909.11515), resizing and padding
(arXiv 1711.01991).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.defences import per_batch, protocol


class Standard(protocol.Deterministic):
    """The network as it is. There is no model underneath to compare it with, so ``base`` is None."""

    name = "standard"

    def __init__(self, model: nn.Module):
        self.model = model

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``."""
        return k

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return per_batch.own_answer(self.model(x))

    def logits_grouped(self, x: Tensor, draws: Sequence[None]) -> Tensor:
        """[G, K, C, H, W] -> [G, K, classes] in one forward."""
        return self.logits(x.flatten(0, 1), None).unflatten(0, x.shape[:2])


class GaussianNoise(protocol.WrappedNetwork, protocol.Seeded):
    """Adds independent Gaussian noise to every pixel before the network sees it; nothing is clipped.

    A draw is an integer that seeds a CPU generator of its own, so the noise is the same on every device.

    Args:
        model: pixels -> logits.
        sigma: standard deviation of the noise, in pixel units on the [0, 1] scale.
    """

    name = "noise"

    def __init__(self, model: nn.Module, sigma: float):
        super().__init__(model)
        self.sigma = sigma

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.logits_grouped(x.unsqueeze(0), [draw]).squeeze(0)

    def logits_grouped(self, x: Tensor, draws: Sequence[int]) -> Tensor:
        """[G, K, C, H, W] -> [G, K, classes] in one forward."""
        noise = torch.stack([protocol.normal(draw, batch) for draw, batch in zip(draws, x, strict=True)])
        return self.model((x + self.sigma * noise).flatten(0, 1)).unflatten(0, x.shape[:2])


class MixupInference(protocol.WrappedNetwork, protocol.Seeded):
    """Averages the network's probabilities over mixtures ``share`` x + (1 - ``share``) x_s.

    The x_s come from a pool of images and belong, by the network's own prediction, to other classes than x is
    given. Logits are logarithms of the averaged probabilities. A draw is uniform numbers [k, samples] in [0,
    1) that pick the x_s of each slot among the images allowed to it.

    Args:
        model: pixels -> logits.
        pool: images [P, C, H, W] in [0, 1] that are not evaluated; on the model's device.
        share: weight of the input in each mixture, above 0 and at most 1. The paper's is 0.5.
        samples: mixtures averaged in one answer. The paper averages 30.
    Raises:
        ValueError: the network gives all of the pool to one class, so that no image of another one is there.
    """

    name = "mixup-inference"

    def __init__(self, model: nn.Module, pool: Tensor, share: float, samples: int):
        super().__init__(model)
        self.share = share
        self.samples = samples
        self.passes = 1 + samples  # the input as it is, then its mixtures
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

    def sample(self, generator: torch.Generator, k: int) -> Tensor:  # type: ignore[override]
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
        rank = (draw.cpu().double() * (len(self.pool) - counts.cpu())).long().to(counts.device)
        return torch.where(rank < starts, rank, rank + counts)


class ResizePad(protocol.WrappedNetwork, protocol.Seeded):
    """Shrinks every input by a random factor and puts it at a random place of a black image of the old size.

    The original enlarges images to at most 331 pixels, which a network for 32 x 32 pixels cannot take. Factor
    and place are continuous here and drawn for each input, so that one bilinear sampling does a whole batch.

    A draw is [k, 3] uniform numbers in [0, 1): factor, place across, place down, for each slot.

    Args:
        model: pixels -> logits.
        scale: the smallest factor, above 0 and at most 1; factors are uniform from here to 1.
    """

    name = "resize-pad"

    def __init__(self, model: nn.Module, scale: float):
        super().__init__(model)
        self.scale = scale

    def sample(self, generator: torch.Generator, k: int) -> Tensor:  # type: ignore[override]
        return torch.rand(k, 3, generator=generator)

    def logits(self, x: Tensor, draw: Tensor) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.model(self.resized(x, draw))

    def logits_grouped(self, x: Tensor, draws: Sequence[Tensor]) -> Tensor:
        """[G, K, C, H, W] -> [G, K, classes] in one forward."""
        return self.model(self.resized(x.flatten(0, 1), torch.cat(list(draws)))).unflatten(0, x.shape[:2])

    def resized(self, x: Tensor, draw: Tensor) -> Tensor:
        """The images [k, C, H, W] as the network sees them."""
        factor = self.scale + (1 - self.scale) * draw[:, :1]
        # In grid_sample's coordinates the old image spans [-1, 1] and the small one centre +- factor.
        centre = (1 - factor) * (2 * draw[:, 1:] - 1)
        affine = torch.diag_embed((1 / factor).expand(-1, 2))
        theta = torch.cat([affine, (-centre / factor).unsqueeze(-1)], dim=-1).to(x)
        grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
        return functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
