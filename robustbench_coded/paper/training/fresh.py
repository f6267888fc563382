"""Networks with fresh weights, by the name of their architecture."""

import torch
from torch import nn

from robustbench_coded.models.detect import construct


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Fills every parameter and buffer of ``network`` in place, in the order of its modules.

    Convolutions are normal with variance 2 / fan-out (He et al. 2015, arXiv 1502.01852), linear layers
    uniform within 1 / sqrt(fan-in), batch-norms the identity. A layer of another kind with
    ``reset_parameters`` and buffers fills these itself.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels // module.groups * module.weight[0, 0].numel()
            module.weight.normal_(0, (2 / fan_out) ** 0.5, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            module.weight.uniform_(-bound, bound, generator=generator)
            if module.bias is not None:
                module.bias.uniform_(-bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        else:
            reset = getattr(module, "reset_parameters", None)
            if callable(reset) and [*module.buffers(recurse=False)]:
                reset()


def build(
    arch: str,
    classes: int,
    in_channels: int = 3,
    *,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """A network with fresh weights, in train mode, float32 on the CPU; arguments as in :func:`construct`.

    Args:
        generator: CPU generator of the weights; None for one seeded with 0. Torch's global one is not read.
    """
    network = construct(arch, classes, in_channels, dropout=dropout).to_empty(device="cpu")
    initialise(network, generator if generator is not None else torch.Generator().manual_seed(0))
    return network.train()
