"""The mean attack loss over the steps, summed up over the groups of a unit."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

TRACED_STEPS = 20


class LossTrace:
    """Sums of the loss over inputs at some of an attack's steps, and how many inputs there were."""

    def __init__(self) -> None:
        self._losses: dict[int, float] = {}
        self._inputs: Counter[int] = Counter()

    def add(self, losses: Sequence[Tensor], inputs: int) -> None:
        """Adds one group's mean loss before each step (scalars), thinned to about ``TRACED_STEPS`` steps."""
        values = torch.stack(list(losses)).tolist() if losses else []
        every = -(-len(values) // TRACED_STEPS)
        for step in range(0, len(values), max(1, every)):
            self._losses[step] = self._losses.get(step, 0.0) + float(f"{values[step]:.5g}") * inputs
            self._inputs[step] += inputs

    def metadata(self) -> dict[str, float]:
        """As outcome files store it: ``loss_STEP`` and ``inputs_STEP``, steps counted from 0."""
        losses = {f"loss_{step}": total for step, total in self._losses.items()}
        return losses | {f"inputs_{step}": count for step, count in self._inputs.items()}
