"""A defence that answers each input by its neighbour: the label leaks through the co-batched inputs.

Slots 2j and 2j + 1 answer for one another, and the data come in such pairs of one label, as a careless test
loader may serve them. An attack on one input alone achieves nothing; its gradient in its own pixels is zero.

Truth: an input is right exactly when the linear model is right on its neighbour. Under ``victim`` the
neighbour is clean: accuracy is the model's clean one, 100%. Under ``batch`` every neighbour is moved to its
own worst point, and each perturbation is the best one at once: accuracy is the share of inputs whose
neighbour's worst margin is positive, 0%. Nothing is random. Batches must hold whole pairs: runs of an even
number of examples in the order given.
"""

import torch
from torch import Tensor, nn

from robustbench_coded.zoo.known import Known, exactly
from robustbench_coded.zoo.linear import LinearModel, along, pattern, planted_margins, spread, worst_margins


class LabelLeak:
    """Gives every input the answer of the other one of its pair; the last of an odd batch has its own."""

    name = "label-leak"
    randomised = False
    batch_dependent = True

    def __init__(self, model: LinearModel):
        self.model = model
        self.base: nn.Module | None = model

    def sample(self, generator: torch.Generator, k: int) -> None:
        return None

    def logits(self, x: Tensor, draw: None) -> Tensor:
        slots = torch.arange(len(x), device=x.device)
        neighbours = slots ^ 1
        return self.model(x)[torch.where(neighbours < len(x), neighbours, slots)]


def known(n: int = 640, eps: float = 0.1) -> Known:
    """Margins of 0.2 to 0.8 eps."""
    model = along(pattern(54))
    x, y = planted_margins(spread(0.2 * eps, 0.8 * eps, n), pattern(54))
    # Labels alternate 0 1 0 1; taken as 0 0 1 1, neighbours share one.
    order = torch.arange(n).view(-1, 4)[:, [0, 2, 1, 3]].flatten()
    x, y = x[order], y[order]
    standing = (worst_margins(model, x, y, eps) > 0).double().mean().item()
    by_inputs = {"batch": exactly(standing), "victim": exactly(1.0)}
    return Known(LabelLeak(model), x, y, 128, exactly(1.0), lambda threat: by_inputs[threat.split("/")[0]])
