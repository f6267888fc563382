"""A network as training recipes see it: a chain of blocks on pixels, run in the chosen precision."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from attacks.accelerator import layout
from robustbench_coded.errors import InputError


class Stages(nn.Module):
    """Runs a network as a whole or from block to block; every result is float32.

    Args:
        network: has ``blocks()``, callables that make up its forward pass one after the other; a network
            without it is a single block.
        mean, deviation: of each channel; block 0 is given (pixel - mean) / deviation.
        autocast: bfloat16 to compute convolutions and products in that; float32 for none.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        deviation: Sequence[float],
        autocast: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.network = network
        self.autocast = autocast
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(-1, 1, 1))

    @property
    def count(self) -> int:
        """Number of blocks."""
        return len(self._blocks())

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[k, classes]`` of pixels ``x`` ``[k, C, H, W]`` in [0, 1]."""
        return self.run(x, 0, self.count)

    def run(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Blocks ``start`` to ``stop`` (not included) applied to ``x``, what block ``start`` is given.

        With ``start`` equal to ``stop`` this is ``x`` itself, so what lies before block 0 is pixels.
        """
        if start == stop:
            return x
        if start == 0:
            x = (x - self.mean) / self.deviation
        if x.ndim == 4:  # the layout that convolutions are fastest in, which encoding does not keep
            x = x.contiguous(memory_format=layout(x.device))
        whole = (start, stop) == (0, self.count)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.autocast == torch.bfloat16):
            # The network itself where possible: only as a whole is it compiled.
            for step in [self.network] if whole else self._blocks()[start:stop]:
                x = step(x)
        return x.float()

    def _blocks(self) -> list[Callable[[Tensor], Tensor]]:
        named = getattr(self.network, "blocks", None)
        return list(named()) if callable(named) else [self.network]


def check_blocks(stages: Stages, blocks: Sequence[int], option: str) -> None:
    """Refuses block numbers that the network does not have.

    Raises:
        InputError: a number below 0 or beyond the last block.
    """
    wrong = [block for block in blocks if not 0 <= block < stages.count]
    if wrong:
        raise InputError(
            f"{option} {wrong[0]}: this architecture has {stages.count} blocks, 0 to {stages.count - 1}"
        )
