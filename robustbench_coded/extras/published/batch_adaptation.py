"""Published adaptation to the batch that is answered, whose answers depend on the co-batched inputs."""

import copy
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from robustbench_coded.defences.protocol import Deterministic
from robustbench_coded.errors import InputError
from robustbench_coded.extras.published.registry import PaperRecord


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


BATCH_NORM_ADAPTATION = PaperRecord(
    about="Prediction-time batch normalisation: statistics of the batch that is answered",
    title="Evaluating Prediction-Time Batch Normalization for Robustness under Covariate Shift",
    arxiv="2006.10963",
    section="2",
    year=2020,
    coupling="means and variances of every batch-norm are those of the batch",
    claim="robustness under corruptions; the paper finds no gain under adversarial perturbations",
    setting="statistics of the batch alone, on the given network; one without batch-norms is refused",
    breaks=(("2301.12576", "malicious co-batched inputs change the answers to others"),),
)


class BatchNormAdaptation(Deterministic):
    """The network with batch-norms that use the batch's own statistics, as in training."""

    batch_dependent = True

    def __init__(self, model: nn.Module):
        self.base = model
        self.adapted = with_batch_statistics(model)

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.adapted(x)


MEDIAN_BATCH_NORM = PaperRecord(
    about="Median batch normalisation: medians of the batch that is answered, in place of its means",
    title="MedBN: Robust Test-Time Adaptation against Malicious Test Samples",
    arxiv="2403.19326",
    section="4",
    year=2024,
    coupling="medians of every batch-norm are those of the batch, and variances around them",
    claim="malicious inputs in a batch do less harm to the others than with means, on corrupted CIFAR-10, "
    "CIFAR-100 and ImageNet; none about inputs that are perturbed themselves",
    setting="statistics of the batch alone, without further adaptation, on the given network",
)


class MedianBatchNorm(Deterministic):
    """Batch-norms that use the median of each channel over the batch, and the variance around it."""

    batch_dependent = True

    def __init__(self, model: nn.Module):
        self.base = model
        self.adapted = with_batch_statistics(model)
        for norm in norms_of(self.adapted).values():
            norm.forward = partial(_by_medians, norm)  # type: ignore[method-assign]

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.adapted(x)


def _by_medians(norm: _BatchNorm, x: Tensor) -> Tensor:
    """What a batch-norm makes of x [k, channels, ...]."""
    channels = x.transpose(0, 1).flatten(1)
    apart = channels - channels.median(1, keepdim=True).values
    scaled = apart / (apart.square().mean(1, keepdim=True) + norm.eps).sqrt()
    if norm.weight is not None:
        scaled = scaled * norm.weight[:, None] + norm.bias[:, None]
    return scaled.view(x.shape[1], len(x), *x.shape[2:]).transpose(0, 1)


TENT = PaperRecord(
    about="TENT: batch-norms are fitted to the unlabelled batch by minimising entropy",
    title="Tent: Fully Test-Time Adaptation by Entropy Minimization",
    arxiv="2006.10726",
    section="3",
    year=2021,
    coupling="statistics and affine parameters of every batch-norm are fitted to the batch",
    claim="lower error under corruptions of CIFAR-10, CIFAR-100 and ImageNet; none about adversaries",
    setting="one step of descent at 0.001 for each batch, from the checkpoint's own parameters",
    breaks=(("2301.12576", "malicious co-batched inputs change the answers to others"),),
)
STEP = 1e-3


class Tent(Deterministic):
    """Before each batch, scales and shifts of batch-norms take a step down the mean entropy of its answers.

    The step is differentiable: an attacker who changes the batch sees how the parameters follow. Where its
    memory is kept, each step begins where the last one ended.
    """

    batch_dependent = True
    remembers = True

    def __init__(self, model: nn.Module):
        self.base = model
        self.adapted = with_batch_statistics(model)
        self.reset()

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``: the step, and the answer."""
        return 2 * k

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
