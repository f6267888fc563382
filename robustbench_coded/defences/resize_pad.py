"""Random resizing and padding (arXiv 1711.01991), for networks that want images of one size."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class ResizePad:
    """Shrinks every input by a random factor and puts it at a random place of a black image of the old size.

    The original enlarges images to at most 331 pixels, which a network for 32 x 32 pixels cannot take. Factor
    and place are continuous here and drawn for each input, so that one bilinear sampling does a whole batch.

    A draw is [k, 3] uniform numbers in [0, 1): factor, place across, place down, for each slot.

    Args:
        model: pixels -> logits.
        scale: the smallest factor, above 0 and at most 1; factors are uniform from here to 1.
        name: as tables name it.
    """

    randomised = True
    batch_dependent = False

    def __init__(self, model: nn.Module, scale: float, *, name: str = "resize-pad"):
        self.name = name
        self.model = model
        self.base: nn.Module | None = model
        self.scale = scale

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``."""
        return k

    def sample(self, generator: torch.Generator, k: int) -> Tensor:
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
