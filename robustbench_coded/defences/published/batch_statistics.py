"""A copy of a network whose batch-norms take the statistics of the batch that they are shown."""

import copy

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robustbench_coded.errors import InputError


class WholeBatch(nn.Module):
    """Answers a batch in one pass: statistics of its pieces would be others."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        blocks = getattr(self.network, "blocks", None)
        if blocks is None:
            return self.network(x)
        for block in blocks():
            x = block(x)
        return x


def norms_of(network: nn.Module) -> dict[str, _BatchNorm]:
    """The batch-norms of a network by their names."""
    return {name: part for name, part in network.named_modules() if isinstance(part, _BatchNorm)}


def with_batch_statistics(model: nn.Module) -> WholeBatch:
    """A copy of ``model`` that normalises by batch statistics and keeps none of them.

    Raises:
        InputError: it has no batch-norm.
    """
    network = copy.deepcopy(model)
    norms = norms_of(network)
    if not norms:
        raise InputError("the network has no batch-norm to adapt; give a checkpoint of one that has")
    for norm in norms.values():
        norm.track_running_stats = False
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    return WholeBatch(network)
