"""Published adaptation to the batch that is answered, whose answers depend on the co-batched inputs."""

import copy
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from robustbench_coded.defences.protocol import Deterministic, WrappedNetwork
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


class BatchNormAdaptation(WrappedNetwork, Deterministic):
    """The network with batch-norms that use the batch's own statistics, as in training.

    Attributes:
        adapted: that network.
    """

    batch_dependent = True

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.adapted = with_batch_statistics(model)

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.adapted(x)


class MedianBatchNorm(BatchNormAdaptation):
    """Batch-norms that use the median of each channel over the batch, and the variance around it."""

    def __init__(self, model: nn.Module):
        super().__init__(model)
        for norm in norms_of(self.adapted).values():
            norm.forward = partial(_by_medians, norm)  # type: ignore[method-assign]


def _by_medians(norm: _BatchNorm, x: Tensor) -> Tensor:
    """What a batch-norm makes of x [k, channels, ...]."""
    channels = x.transpose(0, 1).flatten(1)
    apart = channels - channels.median(1, keepdim=True).values
    scaled = apart / (apart.square().mean(1, keepdim=True) + norm.eps).sqrt()
    if norm.weight is not None:
        scaled = scaled * norm.weight[:, None] + norm.bias[:, None]
    return scaled.view(x.shape[1], len(x), *x.shape[2:]).transpose(0, 1)


STEP = 1e-3


class Tent(BatchNormAdaptation):
    """Before each batch, scales and shifts of batch-norms take a step down the mean entropy of its answers.

    The step is differentiable: an attacker who changes the batch sees how the parameters follow. Where its
    memory is kept, each step begins where the last one ended.
    """

    remembers = True
    passes = 2  # the step, and the answer

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.reset()

    def reset(self) -> None:
        """Forgets every batch."""
        self.fitted: dict[str, Tensor] = {}

    def fit(self, x: Tensor) -> None:
        """Takes the step for the batch ``x`` [k, C, H, W], which is answered next."""
        follows = torch.is_grad_enabled() and x.requires_grad
        with torch.inference_mode(False), torch.enable_grad():
            x = x if follows else x.detach().clone()
            start = {
                f"{name}.{part}": value.detach().clone().requires_grad_()
                for name, norm in norms_of(self.adapted).items()
                for part, value in norm.named_parameters(recurse=False)
            }
            start |= {
                name: value if follows and value.requires_grad else value.detach().clone().requires_grad_()
                for name, value in self.fitted.items()
            }
            log_p = functional_call(self.adapted, start, (x,)).log_softmax(-1)
            entropy = -(log_p.exp() * log_p).sum(-1).mean()
            slopes = torch.autograd.grad(entropy, list(start.values()), create_graph=follows)
            stepped = [value - STEP * slope for value, slope in zip(start.values(), slopes, strict=True)]
        self.fitted = dict(zip(start, stepped if follows else [value.detach() for value in stepped]))

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return functional_call(self.adapted, self.fitted, (x,))
